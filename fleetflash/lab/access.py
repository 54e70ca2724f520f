"""How a person reaches the hosts: a key, known_hosts and an ssh_config, owned by whoever ran sudo."""

import os

from fleetflash.lab import personality, process
from fleetflash.lab.layout import Layout
from fleetflash.lab.spec import LabSpec


def make_key(layout: Layout) -> None:
    process.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {layout.name}", "-f", layout.key)


def write(layout: Layout, spec: LabSpec) -> None:
    """Write all of it; the hosts' own keys must be there."""
    make_key(layout)
    known = [
        f"{host.name},{spec.address(host.name)} {personality.host_public_key(layout, host.name)}" for host in spec.hosts
    ]
    layout.known_hosts.write_text("\n".join(known) + "\n")
    entries = [f"Host {host.name}\n  HostName {spec.address(host.name)}\n  User pi\n" for host in spec.hosts]
    common = (
        f"Host *\n  IdentityFile {layout.key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {layout.known_hosts}\n"
        "  StrictHostKeyChecking yes\n"
    )
    layout.ssh_config.write_text("\n".join([*entries, common]))
    owner = int(os.environ.get("SUDO_UID", "0")), int(os.environ.get("SUDO_GID", "0"))
    for path in (layout.key, layout.key.with_suffix(".pub"), layout.known_hosts, layout.ssh_config):
        os.chown(path, *owner)
