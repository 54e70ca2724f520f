"""The hosts' overlay mounts, and finding every mount that a lab has left."""

from pathlib import Path

from fleetflash.lab import process


def overlay(lower: Path, upper: Path, work: Path, target: Path) -> None:
    """Mount ``lower`` read-only under ``upper`` at ``target``, unless that is done."""
    for directory in (upper, work, target):
        directory.mkdir(parents=True, exist_ok=True)
    if str(target) not in below(target):
        # Numbers of inodes must last, also when the layers lie on different file systems: lab.inode relies on them.
        options = f"lowerdir={lower},upperdir={upper},workdir={work},xino=on"
        process.run("mount", "-t", "overlay", "fleetflash-lab", "-o", options, target)


def below(directory: Path) -> list[str]:
    """Mount points at and below a directory, innermost last."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point == str(directory) or point.startswith(f"{directory}/"):
            found.append(point)
    return found


def unmount_below(directory: Path) -> None:
    for point in reversed(below(directory)):
        process.attempt("umount", "-l", point)
