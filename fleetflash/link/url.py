"""A host's serial port by its URL: ``fleetflash://[user@]host[:sshport]/dev/…[?sudo&ssh_config=…]``.

The host is a name or an alias of ssh_config. ``sudo`` runs the agent as root, which then also sees who else holds the
port.
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

SCHEME = "fleetflash"
_URL = re.compile(
    rf"{SCHEME}://(?:(?P<user>[^@/]+)@)?(?P<host>\[[^\]]+\]|[^:/]+)(?::(?P<port>\d+))?(?P<device>/[^?]+)(?:\?(?P<options>.*))?",
    re.IGNORECASE,
)
#: A name, an alias or an IPv4 address; an IPv6 address in brackets.
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]+(%\w+)?\]")
_OPTIONS = {"sudo", "ssh_config"}


class UrlError(Exception):
    """Not a port's URL. One line that shows what one looks like."""


@dataclass(frozen=True)
class PortUrl:
    """Where a forwarded port is. ``None`` leaves the choice to ssh_config."""

    host: str
    device: str
    user: str | None = None
    ssh_port: int | None = None
    sudo: bool = False
    ssh_config: str | None = None


def parse_url(url: str) -> PortUrl:
    """Raises ``UrlError``."""
    found = _URL.fullmatch(url)
    options = dict(parse_qsl(found["options"] or "", keep_blank_values=True)) if found else {}
    unknown = set(options) - _OPTIONS
    if found and not _HOST.fullmatch(found["host"]):
        raise UrlError(f"{url}: {found['host']!r} is no host name; give a name, an alias of ssh_config or an address")
    if not found or unknown:
        why = f"unknown option {', '.join(sorted(unknown))}" if unknown else "not a port's URL"
        raise UrlError(f"{url}: {why}; expected {SCHEME}://[user@]host[:sshport]/dev/…[?sudo&ssh_config=file]")
    return PortUrl(
        host=found["host"].strip("[]"),
        device=found["device"],
        user=found["user"],
        ssh_port=int(found["port"]) if found["port"] else None,
        sudo="sudo" in options,
        ssh_config=options.get("ssh_config"),
    )
