"""Hosts of the lab with a board of each programmer, Klipper stopped, and what is written on them."""

import hashlib
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetflash.agent.protocols.programmers import PROGRAMMERS
from fleetflash.agent.schema import BoardTransaction, Entry, Firmware, Image, Transaction
from fleetflash.firmware.chips import chip
from fleetflash.lab.host import Host
from fleetflash.lab.image import build_image
from fleetflash.lab.lab import Lab
from fleetflash.lab.spec import BoardSpec, HostSpec
from fleetflash.link.session import AgentSession
from fleetflash.link.ssh import SshConnection
from fleetflash.link.transaction import TransactionClient

WIRING = "reset=rts:0,boot=dtr:0"


@dataclass(frozen=True)
class Bench:
    """A board of the bench: ``kind`` of the lab, ``chip`` of the product, ``mcu`` of its firmware."""

    programmer: str
    kind: str
    chip: str
    mcu: str
    offset: int = 0

    @property
    def name(self) -> str:
        """Of the board."""
        return self.programmer.replace("_", "-")

    def image(self, size: int) -> bytes:
        """Firmware of ``size`` bytes that no board has yet."""
        base = chip(self.chip).flash_bases[-1] + self.offset if self.offset else None
        return build_image(uuid.uuid4().hex, mcu=self.mcu, size=size, base=base)

    def described(self, device: str, image: bytes, placement: str = "host") -> BoardTransaction:
        """The board on its port as a transaction names it; there is no way back, so that only one image travels."""
        of = chip(self.chip)
        return BoardTransaction(
            name=self.name,
            port=device,
            device=device,
            chip=of.name,
            chip_ids=list(of.bootloader_ids(self.programmer)),
            flash_size=of.room(self.offset),
            programmer=self.programmer,
            entry=self.entry,
            expected=Firmware("unasked"),
            wanted=Image("", hashlib.sha256(image).hexdigest(), len(image), "", klipper=False),
            way_back=None,
            placement=placement,
            flash_base=of.flash_bases[0],
            flash_offset=self.offset,
        )

    @property
    def entry(self) -> Entry:
        capabilities = PROGRAMMERS[self.programmer].capabilities
        return Entry(capabilities.entries[0], WIRING if capabilities.wired else "")

    def line_seconds(self, size: int) -> float:
        """What write and verify of ``size`` bytes take on the line and in the flash, with nothing between."""
        pace = PROGRAMMERS[self.programmer].capabilities.pace
        return pace.seconds(size, 0.0) - pace.fixed


BENCHES = {
    bench.programmer: bench
    for bench in (
        Bench("wch_isp", "bmcu-c", "ch32v203c8t6", "ch32v203c8"),
        Bench("katapult", "katapult-f103", "stm32f103xb", "stm32f103xe", 8 * 1024),
        Bench("stm32_rom", "stm32f103", "stm32f103xb", "stm32f103xe"),
        Bench("stk500", "atmega328p", "atmega328p", "atmega328p"),
    )
}


@contextmanager
def lab(hosts: int, boards: Sequence[tuple[str, str]]) -> Iterator[list[Host]]:
    """Hosts without Klipper, each with these boards: (name, kind). Needs root."""
    specs = tuple(BoardSpec(name, mcu="", kind=kind) for name, kind in boards)
    names = [f"printer-{number}" for number in range(1, hosts + 1)]
    # Whoever ends the benchmark must not be left with a lab.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Lab.up("bench", [HostSpec(name, specs) for name in names], "10.72.0") as up:
        for host in up.hosts:
            host.run("sudo systemctl stop klipper moonraker", check=True)
        yield up.hosts


def ssh_config(directory: Path, host: Host, port: int) -> Path:
    """An ssh_config with ``host`` behind a port of this computer."""
    path = directory / f"ssh_config-{host.name}"
    path.write_text(
        f"Host {host.name}\n  HostName 127.0.0.1\n  Port {port}\n  User pi\n  HostKeyAlias {host.name}\n"
        f"  IdentityFile {host.layout.key}\n  IdentitiesOnly yes\n  UserKnownHostsFile {host.layout.known_hosts}\n"
    )
    return path


@dataclass(frozen=True)
class Flashed:
    """``began``, ``ended``: the first erase and the last byte verified, by the monotonic clock that all hosts share.

    ``whole``: seconds from the connected link to the outcome, by the controller's clock.
    """

    began: float
    ended: float
    whole: float

    @property
    def written(self) -> float:
        """Seconds of write and verify."""
        return self.ended - self.began


def flash(connection: SshConnection, board: BoardTransaction, image: bytes) -> Flashed:
    """Have a host write one board, as a deploy does; raises ``RuntimeError`` when that fails."""
    moments: dict[str, float] = {}

    def note(event: dict[str, Any]) -> None:
        moments.setdefault(event["step"], event.get("monotonic", 0.0))

    transaction = Transaction(
        id=f"bench-{uuid.uuid4().hex[:12]}",
        controller="benchmark",
        boards=[board],
        service="klipper.service",
        socket="",
        was_active=False,
        was_ready=False,
        policy="compatible",
        restore_seconds=60.0,
    )
    read_image: Callable[[str], bytes] = lambda sha256: image  # noqa: E731
    started = time.perf_counter()
    with AgentSession(connection.transport, connection.host, ["run"], sudo=True) as session:
        client = TransactionClient(session, connection.host, note)
        client.start(transaction, read_image)
        outcome = client.follow(transaction, read_image)
    whole = time.perf_counter() - started
    if outcome["outcome"] != "committed":
        raise RuntimeError(f"{connection.host}: {board.name}: {outcome['outcome']}: {outcome['detail']}")
    return Flashed(moments["writing"], moments["verified"], whole)
