"""Which entries of an inventory are one host: printers with a Klipper each, reached over the same SSH server."""

from typing import Any


def address(host: Any) -> tuple[str, int]:
    """Return where SSH gets to an entry's host."""
    return str(host.data.get("ssh_hostname") or host.name), int(host.data.get("ssh_port") or 22)
