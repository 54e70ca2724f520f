"""Printers with one board each that is no BMCU-C: what the lab plugs in, and what the inventory says of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetflash.lab.boards.kinds import KINDS as SIMULATED
from fleetflash.lab.host import Host
from fleetflash.lab.image import build_image
from fleetflash.lab.spec import BoardSpec, HostSpec
from tests.lab.fleet import FACTORY, PORT, WANTED, Fleet

KIB = 1024
SIZE = 12 * KIB
UID = "2a0035000851363131363530"
BOARD = "board"
VERSIONS = (FACTORY, WANTED)


@dataclass(frozen=True)
class Kind:
    """``simulated``: its name in the lab; ``offset``: of the application in flash; ``base``: the flash's address.

    ``by_id``: how the by-id name of its port begins, when the inventory names it so.
    """

    simulated: str
    chip: str
    mcu: str
    programmer: str
    offset: int = 0
    base: int | None = None
    uid: str = UID
    wiring: str = ""
    by_id: str = ""

    def image(self, version: str) -> bytes:
        base = None if self.base is None else self.base + self.offset
        return build_image(version, mcu=self.mcu, size=SIZE, base=base)

    def factory(self, version: str) -> bytes:
        """The flash from its beginning, with the bootloader that lies before the application."""
        return SIMULATED[self.simulated].factory(version)[: self.offset] + self.image(version)


#: By the name of the bench and of its printer.
KINDS = {
    "stm32-rom": Kind("stm32f103", "stm32f103xb", "stm32f103xe", "stm32_rom", wiring="reset=rts:0,boot=dtr:0"),
    "optiboot": Kind("atmega328p", "atmega328p", "atmega328p", "stk500", uid=""),
    "stk500v2": Kind("atmega2560", "atmega2560", "atmega2560", "stk500", uid=""),
    "katapult-uart": Kind("katapult-f103", "stm32f103xb", "stm32f103xe", "katapult", 8 * KIB, 0x0800_0000),
    "katapult-usb": Kind(
        *("katapult-rp2040", "rp2040", "rp2040", "katapult", 16 * KIB, 0x1000_0000),
        uid=UID[:16],
        by_id="usb-Klipper_rp2040_",
    ),
}


def hosts() -> tuple[HostSpec, ...]:
    """One printer for each kind."""
    return tuple(HostSpec(name, (BoardSpec(BOARD, kind=kind.simulated, uid=kind.uid),)) for name, kind in KINDS.items())


class KindFleet(Fleet):
    """A fleet of these printers. Every printer is named after its kind."""

    def __post_init__(self) -> None:
        for name, kind in KINDS.items():
            for version in VERSIONS:
                self._path(name, version).write_bytes(kind.image(version))
            self._register(self.directory / "store", name, *VERSIONS)
        self.reset(*self.lab.hosts)
        for host in self.lab.hosts:
            self.inventory[host.name] = self.describe(host)

    def describe(self, host: Host, **boards: dict[str, Any]) -> dict[str, Any]:
        kind = KINDS[host.name]
        port = PORT.format(1)
        if kind.by_id:
            names = host.run("ls /dev/serial/by-id", check=True).stdout.split()
            port = "/dev/serial/by-id/" + next(name for name in names if name.startswith(kind.by_id))
        described = {
            "port": port,
            "klippy_mcu": "mcu",
            "chip": kind.chip,
            "programmer": kind.programmer,
            "flash_offset": kind.offset,
            "firmware": host.name,
            **({"wiring": kind.wiring} if kind.wiring else {}),
            **boards.get(BOARD, {}),
        }
        return {**super().describe(host), "boards": {BOARD: described}}

    def image(self, host: Host, version: str) -> bytes:
        return KINDS[host.name].image(version)

    def factory(self, host: Host) -> bytes:
        return KINDS[host.name].factory(FACTORY)

    def offset(self, host: Host) -> int:
        return KINDS[host.name].offset

    def store_of(self, host: Host, version: str) -> str:
        path = self.directory / f"only-{host.name}-{version}"
        if not path.exists():
            self._register(path, host.name, version)
        return str(path)

    def _path(self, name: str, version: str) -> Path:
        return self.directory / f"{name}-{version}.bin"

    def _register(self, store: Path, name: str, *versions: str) -> None:
        kind = KINDS[name]
        files = [str(self._path(name, version)) for version in versions]
        where = ["--offset", hex(kind.offset)] if kind.offset else []
        added = self.fleetflash(
            "artifact", "add", *files, "--chip", kind.chip, "--name", name, *where, "--store", str(store)
        )
        assert added.code == 0, added.output
