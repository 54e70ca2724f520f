"""What makes a host itself: name, machine id, SSH keys, and the printer's configuration.

Written into the host's overlay before its first boot; from then on the files are the host's own.
"""

import os
import shutil
import uuid
from pathlib import Path

from fleetflash.lab import bare, klipper, process
from fleetflash.lab.layout import Layout
from fleetflash.lab.spec import HostSpec, LabSpec

# Users that the lab's key may log in as.
USERS = {"pi": "home/pi", "nosudo": "home/nosudo", "root": "root"}


def apply(root: Path, layout: Layout, lab: LabSpec, spec: HostSpec) -> None:
    """Personalize the host whose root file system is mounted at ``root``, unless that is done."""
    done = layout.host(spec.name) / "personalized"
    if done.exists():
        return
    (root / "etc/hostname").write_text(f"{spec.name}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {spec.name}\n")
    (root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
    _host_key(root, layout, spec.name)
    _authorized_keys(root, layout)
    for unit in spec.units:
        (root / "etc/systemd/system/multi-user.target.wants" / unit).symlink_to(f"/lib/systemd/system/{unit}")
    if spec.bare:
        bare.strip(root)
        done.touch()
        return
    data = root / "home/pi/printer_data"
    _write_as_pi(root, data / "config/printer.cfg", klipper.printer_cfg(spec.boards))
    _write_as_pi(root, data / "config/moonraker.conf", klipper.moonraker_conf(lab.subnet))
    _write_as_pi(root, data / "gcodes" / klipper.PRINT_FILE, klipper.PRINT_GCODE)
    done.touch()


def host_public_key(layout: Layout, host: str) -> str:
    return (layout.host(host) / "ssh_host_key.pub").read_text().strip()


def _host_key(root: Path, layout: Layout, host: str) -> None:
    """Give the host the key that the lab's known_hosts names; made once per lab and host."""
    kept = layout.host(host) / "ssh_host_key"
    place = root / "etc/ssh/ssh_host_ed25519_key"
    shutil.copyfile(kept, place)
    place.chmod(0o600)
    shutil.copyfile(kept.with_suffix(".pub"), place.with_suffix(".pub"))


def make_host_key(layout: Layout, host: str) -> None:
    key = layout.host(host) / "ssh_host_key"
    if not key.exists():
        process.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host, "-f", key)


def _authorized_keys(root: Path, layout: Layout) -> None:
    for home in USERS.values():
        owner = (root / home).stat()
        directory = root / home / ".ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        keys = directory / "authorized_keys"
        shutil.copyfile(layout.key.with_suffix(".pub"), keys)
        keys.chmod(0o600)
        for path in (directory, keys):
            os.chown(path, owner.st_uid, owner.st_gid)


def _write_as_pi(root: Path, path: Path, text: str) -> None:
    owner = (root / "home/pi").stat()
    path.write_text(text)
    os.chown(path, owner.st_uid, owner.st_gid)
