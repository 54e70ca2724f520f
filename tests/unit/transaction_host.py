"""A Klipper host for transactions: systemd, klippy, ports and boards are fakes that remember; the rest is real.

The store, the journal and the guard's files are real and lie below a temporary directory. Each step at an edge asks
``tick``, so that a test can fail it, or kill the agent there, as SIGKILL or a power cut would.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent import board as board_module
from fleetflash.agent import (
    devices,
    disk,
    guard,
    klippy,
    object_checks,
    patience,
    power_supply,
    preconditions,
    systemd,
    transaction,
)
from fleetflash.agent.holds import Holds
from fleetflash.agent.lineage import Lineages
from fleetflash.agent.port import PortError
from fleetflash.agent.protocols import klipper
from fleetflash.agent.protocols.errors import NoAnswerError, ProtectedError
from fleetflash.agent.protocols.programmer import Capabilities, Found, Pace
from fleetflash.agent.schema import BoardTransaction, Entry, Firmware, Hold, Image, Power, Transaction
from fleetflash.agent.store import Journal, Store

OLD, NEW = "v1", "v2"
SERVICE = "klipper.service"


class Death(BaseException):
    """The agent is killed: nothing of it may run any more."""


def content(version: str, board: str) -> bytes:
    return f"{version} for {board}".encode()


def image(version: str, board: str) -> Image:
    data = content(version, board)
    return Image(f"artifact-{version}", hashlib.sha256(data).hexdigest(), len(data), version)


@dataclass
class FakeBoard:
    """``flash``: what it holds; ``mode``: ``application`` or ``bootloader``; ``hangs``: until it is without power."""

    name: str
    uid: str
    flash: bytes
    mode: str = "application"
    chip_id: str = "19:31"
    protected: bool = False
    hangs: bool = False
    powered: bool = True

    @property
    def answers(self) -> bool:
        return self.powered and not self.hangs

    @property
    def version(self) -> str:
        """What it runs; empty when it runs nothing."""
        known = {content(version, self.name): version for version in (OLD, NEW, "v3")}
        return known.get(self.flash, "") if self.mode == "application" and self.answers else ""


class FakePort:
    def __init__(self, host: "FakeHost", board: FakeBoard) -> None:
        self.name, self.host, self.board = f"/dev/{board.name}", host, board

    def close(self) -> None: ...


class FakeProgrammer:
    """Does to a ``FakeBoard`` what a programmer does to a board; ``checks``: what comparing its flash ticks."""

    checks = "verify"

    capabilities = Capabilities(read_back=False, entries=("lines",), pace=Pace(1_000_000, 56, 20, 1.5))

    def __init__(self, port: FakePort, *context: object) -> None:
        self.port, self.board, self.tick = port, port.board, port.host.tick

    def enter(self, entry: Entry, ask: object) -> None:
        self.tick("enter", self.board.name)
        self._answer()
        self.board.mode = "bootloader"
        self.tick("entered", self.board.name)

    def probe(self) -> Found:
        self.tick("probe", self.board.name)
        return Found(self.board.chip_id, self.board.uid, self.board.protected)

    def unprotect(self, entry: Entry, ask: object) -> None:
        self.board.protected, self.board.flash = False, b""

    def read(self, progress: Callable[[int, int], None]) -> bytes:
        self.tick("read", self.board.name)
        self.checks = "compare"
        return self.board.flash

    def write(self, data: bytes, progress: Callable[[int, int], None]) -> None:
        if self.board.protected:
            raise ProtectedError("protected")
        self.checks = "verify"
        self.tick("erase", self.board.name)
        self.board.flash = b""
        self.tick("program", self.board.name)
        self.board.flash = data[: len(data) // 2]
        self.tick("programming", self.board.name)
        self.board.flash = data
        progress(len(data), len(data))

    def verify(self, data: bytes, progress: Callable[[int, int], None]) -> None:
        self.tick(self.checks, self.board.name)
        assert self.board.flash == data

    def reset(self) -> None:
        self.tick("reset", self.board.name)
        self.board.mode = "application"

    def leave(self) -> None:
        self.tick("leave", self.board.name)
        self._answer()
        self.board.mode = "application"

    def _answer(self) -> None:
        if not self.board.answers:
            raise NoAnswerError(f"{self.port.name}: no answer within 1 s")


@dataclass
class FakeHost:
    """``faults``: (step, board) → the exceptions that it raises, one a time.

    ``hangs``: (step, board) → how often the board hangs itself up there. ``objects``: klippy's, beside its MCUs.

    ``kill_at``, ``kill_on``: the tick, by number or by what it is, at which the agent dies.
    """

    root: Path
    boards: dict[str, FakeBoard]
    active: bool = True
    ready: bool = True
    print_state: str = "standby"
    faults: dict[tuple[str, str], list[Exception]] = field(default_factory=dict)
    hangs: dict[tuple[str, str], int] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)
    steps: list[tuple[str, str]] = field(default_factory=list)
    kill_at: int = -1
    kill_on: tuple[str, str] = ("", "")
    places: dict[str, str] = field(default_factory=dict)
    #: Whether each start of Klipper was waited for.
    waited: list[bool] = field(default_factory=list)
    #: What klippy says of a board instead of the truth.
    said: dict[str, Firmware] = field(default_factory=dict)
    #: Versions that say nothing once they run on a board: (board, version).
    silent: set[tuple[str, str]] = field(default_factory=set)
    #: How klippy finds out its own version when it starts, and what it then says.
    code: Callable[[], str] = str
    code_version: str = ""

    def __post_init__(self) -> None:
        self.store = Store(self.root / "state")
        self.places = {name: f"/dev/{name}" for name in self.boards}

    def tick(self, step: str, board: str = "") -> None:
        if len(self.steps) == self.kill_at or (step, board) == self.kill_on:
            self.kill_at, self.kill_on = -1, ("", "")
            raise Death
        self.steps.append((step, board))
        if self.hangs.get((step, board)):
            self.hangs[step, board] -= 1
            self.boards[board].hangs = True
        if self.faults.get((step, board)):
            raise self.faults[step, board].pop(0)

    # What a transaction uses

    def open_port(self, device: str, baud: int) -> Any:
        self.tick("open", device)
        if self.active:
            raise PortError(f"{device}: in use by klippy")
        name = next((name for name, place in self.places.items() if place == device), None)
        if name is None:
            raise PortError(f"{device}: no such port")
        return FakePort(self, self.boards[name])

    def identify(self, port: FakePort, **_: object) -> klipper.Dictionary:
        if not port.board.version or (port.board.name, port.board.version) in self.silent:
            raise NoAnswerError(f"{port.name}: no Klipper firmware answers identify")
        return klipper.Dictionary(port.board.version, "", {}, b"")

    def candidates(self, port: str, ports: object) -> list[str]:
        place = self.places.get(port.removeprefix("/dev/by-path/"), "")
        return [place] if place else []

    def status(self, path: str, timeout: float = 5.0) -> klippy.Status:
        if not self.active:
            raise klippy.KlippyError(f"{path}: no such file")
        running = all(board.version and (name, board.version) not in self.silent for name, board in self.boards.items())
        mcus = {name: self.said.get(name, Firmware("klippy", board.version)) for name, board in self.boards.items()}
        if self.ready and running:
            return klippy.Status("ready", print_state=self.print_state, mcus=mcus, version=self.code_version)
        return klippy.Status("error", "mcu: unable to connect", version=self.code_version)

    def wait_until_ready(self, path: str, timeout: float) -> klippy.Status:
        self.tick("wait")
        status = self.status(path)
        if status.state != "ready":
            raise klippy.KlippyError(f"klippy is not ready: {status.message}")
        return status

    def query(self, path: str, objects: list[str], timeout: float = 5.0) -> dict[str, Any]:
        self.tick("query")
        if self.status(path).state != "ready":
            raise klippy.KlippyError(f"{path}: objects/query: klippy is not ready")
        return {name: self.objects.get(name, {}) for name in objects}

    def switch(self, board: BoardTransaction, power: Power, on: bool, transaction: str) -> None:
        self.tick(f"power {'on' if on else 'off'}", board.name)
        found = self.boards[board.name]
        found.powered, found.hangs, found.mode = on, False, "application"

    def stop(self, unit: str) -> None:
        self.tick("stop")
        self.active = False

    def start(self, unit: str, wait: bool = True) -> None:
        self.tick("start")
        self.waited.append(wait)
        assert not guard.BUSY.exists(), "the drop-in would keep Klipper from starting"
        self.active = True
        self.code_version = self.code()

    def show(self, unit: str, properties: object) -> dict[str, str]:
        return {"ActiveState": "active" if self.active else "inactive", "MainPID": "0"}

    # Whole transactions

    def transaction(self, policy: str = "exact", **changes: Any) -> Transaction:
        """A transaction from v1 to v2 for all boards; ``changes`` are fields of every board of it."""
        boards = []
        for name, board in self.boards.items():
            fields: dict[str, Any] = {
                "name": name,
                "port": f"/dev/by-path/{name}",
                "device": self.places[name],
                "chip": "ch32v203c8t6",
                "chip_ids": ["19:31"],
                "flash_size": 65536,
                "programmer": "wch_isp",
                "entry": Entry("lines"),
                "expected": Firmware("klippy", OLD),
                "wanted": image(NEW, name),
                "way_back": image(OLD, name),
                "klippy_mcu": name,
                "uid": board.uid,
                **changes,
            }
            boards.append(BoardTransaction(**fields))
            for version in (OLD, NEW):
                disk.write_file(self.store.image(image(version, name).sha256), content(version, name))
        return Transaction("t-1", "me@here", boards, SERVICE, "/klippy.sock", self.active, self.ready, policy, 10.0)

    def rollback(self, *others: str) -> Transaction:
        """The same as a rollback, which holds its boards, and ``others`` that were there before."""
        whole = self.transaction("compatible")
        boards = [*self.boards, *others]
        holds = {name: Hold(image(NEW, name).sha256, NEW, "pin", whole.id, whole.controller) for name in boards}
        return dataclasses.replace(whole, holds=holds)

    def begin(self, whole: Transaction) -> "transaction.Runner":
        self.store.write_transaction(whole)
        return self.runner(whole)

    def runner(self, whole: Transaction) -> "transaction.Runner":
        return transaction.Runner(whole, self.store, self.root / "agent.pyz", self.open_port)

    def run(self, whole: Transaction) -> str:
        return self.begin(whole).run()

    def outcome(self) -> dict[str, Any]:
        found = self.store.read_outcome("t-1")
        assert found is not None, "no outcome was written"
        return found

    def results(self) -> dict[str, str]:
        return {name: board["result"] for name, board in self.outcome()["boards"].items()}

    def journal(self, *steps: str) -> list[str]:
        """The journal's steps, or those of ``steps`` with their boards."""
        entries = self.store.journal("t-1").read()
        return [f"{e['step']} {e['board']}" if "board" in e else e["step"] for e in entries if e["step"] in steps]

    def versions(self) -> dict[str, str]:
        return {name: board.version for name, board in self.boards.items()}

    def after_death(self, whole: Transaction) -> None:
        """What systemd does when the agent's process is gone: the ``ExecStopPost`` lines, in their order."""
        try:
            self.runner(whole).settle()
        finally:
            guard.BUSY.unlink(missing_ok=True)
            if whole.was_active and guard.STOPPED.exists() and not self.active:
                self.start(SERVICE)

    def left_behind(self) -> list[str]:
        """Files of the guard that are still there."""
        paths = (guard.BUSY, guard.SETTLE_UNIT, guard.SETTLE_LINK, guard._drop_in(SERVICE))
        return [path.name for path in paths if path.exists() or path.is_symlink()]


def make_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> FakeHost:
    """A host on which Klipper runs, with boards of those names, all on v1."""
    boards = {name: FakeBoard(name, f"0{number}" * 8, content(OLD, name)) for number, name in enumerate(names)}
    host = FakeHost(tmp_path, boards)
    run = tmp_path / "run"
    for name, path in {"RUN": run, "BUSY": run / "busy", "STOPPED": run / "stopped"}.items():
        monkeypatch.setattr(guard, name, path)
    monkeypatch.setattr(guard, "SETTLE_UNIT", tmp_path / "etc/fleetflash-settle.service")
    monkeypatch.setattr(guard, "SETTLE_LINK", tmp_path / "etc/wants/fleetflash-settle.service")
    monkeypatch.setattr(guard, "_drop_in", lambda service: run / f"{service}.d" / "50-fleetflash.conf")
    for name in ("show", "stop", "start"):
        monkeypatch.setattr(systemd, name, getattr(host, name))
    monkeypatch.setattr(systemd, "systemctl", lambda *words, **_: host.tick("systemctl"))
    monkeypatch.setattr(klippy, "status", host.status)
    monkeypatch.setattr(klippy, "wait_until_ready", host.wait_until_ready)
    monkeypatch.setattr(klippy, "query", host.query)
    monkeypatch.setattr(power_supply, "switch", host.switch)
    monkeypatch.setattr(object_checks, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(klipper, "identify", host.identify)
    monkeypatch.setattr(devices, "candidates", host.candidates)
    monkeypatch.setattr(devices, "list_ports", lambda holders: [])
    mortal(host, monkeypatch, Journal, "append")
    for name in ("write_outcome", "write_ledger", "write_attention"):
        mortal(host, monkeypatch, Store, name)
    mortal(host, monkeypatch, Lineages, "enter")
    mortal(host, monkeypatch, Holds, "put")
    # Whether it is called is for the store's own tests; here it would only cost time.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(preconditions, "holders", lambda device: [])
    for pause in ("RESTORE_PAUSE", "OFF_SECONDS", "ON_PAUSE"):
        monkeypatch.setattr(patience, pause, 0.0)
    monkeypatch.setattr(board_module, "PORT_SECONDS", 0.0)
    monkeypatch.setattr(board_module, "PROGRAMMERS", {"wch_isp": FakeProgrammer})
    return host


def mortal(host: FakeHost, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    """Have the agent die before or after it writes something down."""
    write = getattr(owner, name)

    def write_and_live(*arguments: Any, **details: Any) -> Any:
        host.tick(f"before {name}", str(arguments[1]))
        result = write(*arguments, **details)
        host.tick(f"after {name}", str(arguments[1]))
        return result

    monkeypatch.setattr(owner, name, write_and_live)
