"""The default bench: the printers of the demonstration, plain ones after them, and gateways at hosts of their own."""

from fleetflash.lab.errors import LabError
from fleetflash.lab.spec import BoardSpec, HostSpec, board_uid

# One entry per printer: its boards as (name, klippy's name for it, entry into the bootloader).
_PRINTERS: tuple[tuple[tuple[str, str, str], ...], ...] = (
    (("bmcu", "mcu", "auto"),),
    (("bmcu-a", "mcu", "auto"), ("bmcu-b", "bmcu_b", "auto")),
    (("bmcu", "mcu", "button"),),
    (("bmcu", "mcu", "auto"),),
    (("bmcu-a", "mcu", "auto"), ("bmcu-b", "bmcu_b", "auto")),
    (("bmcu", "mcu", "auto"),),
)
_FURTHER = (("bmcu", "mcu", "auto"),)
#: The one gateway that is in a network, with a web server and at the broker of its host.
_ONLINE = ("--http", "{bridge}:8081", "--mqtt", "{address:desk-1}:1883", "--topic", "bms/desk-1")
_ON_CAN = ("--candump", "{directory}/can.log")
# Hosts without Klipper, each with one gateway: its kind, its MAC address, whether it has a card, the networks that it
# is in, and what else its host starts.
_GATEWAYS: tuple[tuple[str, str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("esp32", "240ac4000001", "yes", (*_ONLINE, *_ON_CAN), ("mosquitto.service",)),
    ("esp32s3", "240ac4000002", "no", _ON_CAN, ()),
)
# Addresses .11 to .254.
MOST_HOSTS = 244


def default_hosts(count: int, delays: dict[str, float] | None = None) -> tuple[HostSpec, ...]:
    """``printer-1`` … ``printer-<count>``; ``delays`` maps host names to round-trip milliseconds."""
    if not 1 <= count <= MOST_HOSTS:
        raise LabError(f"a lab has 1 to {MOST_HOSTS} hosts, not {count}")
    delays = delays or {}
    names = [f"printer-{number}" for number in range(1, count + 1)]
    if unknown := sorted(set(delays) - set(names)):
        raise LabError(f"no host {', '.join(unknown)} to delay: there are {names[0]} to {names[-1]}")
    return tuple(
        HostSpec(
            name=name,
            boards=tuple(
                BoardSpec(name=board, mcu=mcu, entry=entry, uid=board_uid(name, board))
                for board, mcu, entry in (_PRINTERS[number] if number < len(_PRINTERS) else _FURTHER)
            ),
            delay_ms=delays.get(name, 0.0),
        )
        for number, name in enumerate(names)
    )


def gateway_hosts(count: int = len(_GATEWAYS)) -> tuple[HostSpec, ...]:
    """``desk-1`` …: bare hosts that a gateway is plugged into."""
    if not 0 <= count <= len(_GATEWAYS):
        raise LabError(f"a lab has 0 to {len(_GATEWAYS)} gateways, not {count}")
    return tuple(
        HostSpec(
            f"desk-{number}",
            (BoardSpec("gateway", mcu="", kind=kind, uid=mac, options=("--equipment", f"sd={card}", *networks)),),
            bare=True,
            units=units,
        )
        for number, (kind, mac, card, networks, units) in enumerate(_GATEWAYS[:count], 1)
    )
