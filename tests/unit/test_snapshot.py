"""A look at a host opens a port only when nobody else uses it or is about to, and says why when it did not look."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent import devices, guard, klippy, snapshot, systemd
from fleetflash.agent.klippy import KlippyError, Status
from fleetflash.agent.port import PortAbsentError, PortError
from fleetflash.agent.protocols.errors import NoAnswerError
from fleetflash.agent.protocols.klipper import Dictionary
from fleetflash.agent.schema import (
    BoardFacts,
    Firmware,
    LedgerEntry,
    McuSection,
    PortFacts,
    Probe,
    Snapshot,
    SnapshotRequest,
)
from fleetflash.agent.store import Store
from fleetflash.plan.printer import Printer, printer_state


class Host:
    """A stopped Klipper and one free board that runs v1; changed by the tests."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store(root)
        self.active, self.idle = "inactive", True
        self.status: Status | KlippyError = KlippyError("no socket")
        self.holders: list[tuple[int, str]] = []
        self.answer: Dictionary | Exception = Dictionary("v1", "gcc", {"MCU": "x"}, b"")
        self.opened: list[str] = []
        monkeypatch.setattr(snapshot, "_why_no_systemd", lambda: "")  # this machine may not run it
        monkeypatch.setattr(systemd, "show_all", self._show_all)
        monkeypatch.setattr(devices, "list_ports", lambda _: [PortFacts("/dev/d", [], ["/dev/p"])])
        monkeypatch.setattr(devices, "candidates", lambda port, _: ["/dev/d"] if port == "/dev/p" else [])
        monkeypatch.setattr(snapshot, "holders", lambda device: self.holders)
        monkeypatch.setattr(snapshot, "STARTUP_SECONDS", 0.0)
        monkeypatch.setattr(klippy, "status", self._status)
        monkeypatch.setattr(snapshot.SerialPort, "open", self._open)
        monkeypatch.setattr(snapshot.klipper, "identify", self._identify)

    def _show_all(self, units: Sequence[str], _: object) -> dict[str, dict[str, str]]:
        found = {unit: {"ActiveState": self.active, "MainPID": "100", "User": ""} for unit in units}
        found[guard.UNIT] = {"ActiveState": "inactive" if self.idle else "active"}
        found[guard.SETTLE_UNIT.name] = {"ActiveState": "inactive"}
        return found

    def _status(self, path: str, sections: bool) -> Status:
        if isinstance(self.status, KlippyError):
            raise self.status
        return self.status

    def _open(self, device: str, baud: int) -> Any:
        self.opened.append(device)
        if isinstance(self.answer, PortError):
            raise self.answer
        return self

    def close(self) -> None: ...

    def _identify(self, port: object, **_: object) -> Dictionary:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def look(self) -> Snapshot:
        return snapshot.take(SnapshotRequest([Probe("bmcu", "/dev/p", "mcu")], socket="/s"), self.store)

    def board(self) -> BoardFacts:
        return self.look().boards["bmcu"]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_board_of_a_stopped_klipper_is_asked_itself(host: Host) -> None:
    found = host.board()
    assert (found.device, found.candidates) == ("/dev/d", ["/dev/d"])
    assert found.firmware == Firmware("identify", "v1", "gcc", {"MCU": "x"})
    assert host.opened == ["/dev/d"]


def test_klippy_is_asked_while_it_runs_and_no_port_opened(host: Host) -> None:
    host.active, host.holders = "active", [(100, "klippy")]
    host.status = Status("ready", print_state="standby", mcus={"mcu": Firmware("klippy", "v2")})
    found = host.look()
    assert found.boards["bmcu"].firmware.version == "v2" and host.opened == []
    assert (found.service.klippy, found.service.print_state, found.service.main_pid) == ("ready", "standby", 100)


def test_look_does_not_come_between_a_running_transaction_and_its_boards(host: Host) -> None:
    """Between two boards their ports are free for a moment: opening one would make the transaction fail."""
    host.idle = False
    found = host.look()
    assert host.opened == []
    assert found.boards["bmcu"].firmware.source == "unasked"
    assert "a transaction is running" in found.boards["bmcu"].firmware.error
    assert found.transaction is not None and found.transaction.running


def test_port_that_is_held_is_not_opened_and_its_holder_named(host: Host) -> None:
    host.holders = [(7, "minicom")]
    assert host.board().firmware == Firmware("unasked", error="/dev/d is held by process 7 (minicom)")
    assert host.opened == []


def test_port_that_klippy_is_about_to_open_is_left_to_it(host: Host) -> None:
    host.active, host.status = "active", Status("startup")
    assert host.board().firmware.source == "none" and host.opened == []


@pytest.mark.parametrize(
    ("answer", "source", "words"),
    [
        (NoAnswerError("/dev/d: no Klipper firmware answers"), "none", "no Klipper firmware answers"),
        (PortError("/dev/d: no permission"), "unasked", "no permission"),
    ],
)
def test_silent_board_and_port_that_can_not_be_used_are_told_apart(
    host: Host, answer: Exception, source: str, words: str
) -> None:
    host.answer = answer
    found = host.board().firmware
    assert found.source == source and words in found.error


def test_board_whose_port_is_absent_is_data_and_no_error(host: Host) -> None:
    found = snapshot.take(SnapshotRequest([Probe("bmcu", "/dev/gone")], socket="/s"), host.store).boards["bmcu"]
    assert (found.device, found.candidates, found.firmware.error) == ("", [], "/dev/gone is not there")


def test_klippy_that_can_not_be_asked_is_data_with_the_reason(host: Host) -> None:
    host.active, host.status = "active", KlippyError("/s: no answer in time")
    service = host.look().service
    assert (service.active, service.klippy, service.error) == ("active", "", "/s: no answer in time")


def test_klippy_that_hangs_in_its_start_can_not_print(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "SOCKET_SECONDS", -1.0)
    monkeypatch.setattr(klippy, "never_opened", lambda path, pid: (path, pid) == ("/s", 100))
    host.active = "active"
    found = host.look()
    assert printer_state(found.service) is Printer.ERROR and host.opened == []
    assert found.service.error.startswith("klippy hangs in its start: it has not opened /s")


def test_board_that_its_port_resets_is_left_in_peace_before_it_is_asked(host: Host, monkeypatch: Any) -> None:
    """What comes too early keeps an AVR's bootloader waiting."""
    waited: list[float] = []
    monkeypatch.setattr(snapshot.time, "sleep", lambda seconds: waited.append(seconds) if host.opened else None)
    request = SnapshotRequest([Probe("mega", "/dev/p", "mcu", quiet=2.0)], socket="/s")
    assert snapshot.take(request, host.store).boards["mega"].firmware.version == "v1"
    assert waited == [2.0]


def test_board_that_waits_in_its_bootloader_is_found_where_the_ledger_says_that_it_was(host: Host) -> None:
    probe = Probe("toolhead", "/dev/serial/by-id/usb-Klipper_x_00-if00", "mcu", moves=True)
    request = SnapshotRequest([probe], socket="/s")
    assert snapshot.take(request, host.store).boards["toolhead"].device == ""
    host.store.write_ledger("toolhead", LedgerEntry("a", "0" * 64, "v1", "t0", by_path="/dev/p"))
    found = snapshot.take(request, host.store).boards["toolhead"]
    assert (found.device, found.moved) == ("/dev/d", True)
    assert not host.board().moved


def test_unique_id_of_a_board_on_usb_itself_is_seen_without_opening_its_port(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = PortFacts("/dev/d", [], ["/dev/p"], usb="1d50:614e:Klipper:stm32f446xx:2A0035000851363131363530:00")
    monkeypatch.setattr(devices, "list_ports", lambda _: [native])
    host.active, host.status = "active", Status("ready", mcus={"mcu": Firmware("klippy", "v2")})
    assert host.board().uid == "2a0035000851363131363530" and host.opened == []


@pytest.mark.parametrize(
    ("failure", "source"), [(PortAbsentError("no terminal"), "none"), (PortError("held"), "unasked")]
)
def test_board_that_offers_no_port_says_nothing_and_is_not_taken_for_one_that_nobody_could_ask(
    host: Host, monkeypatch: pytest.MonkeyPatch, failure: PortError, source: str
) -> None:
    """What nobody could ask is believed to be what the ledger says."""

    def refuse(port: str, baud: int, seconds: float) -> Any:
        raise failure

    monkeypatch.setattr(snapshot.CONNECTIONS["process"], "open_application", refuse)
    request = SnapshotRequest([Probe("host", "/tmp/klipper_host_mcu", connection="process")], socket="/s")
    found = snapshot.take(request, host.store).boards["host"]
    assert (found.firmware, found.candidates) == (Firmware(source, error=str(failure)), ["/tmp/klipper_host_mcu"])
    assert host.opened == []


@pytest.mark.parametrize(
    ("connection", "serial", "expected"),
    [
        ("can", "can0:1234567890ab", "can0:1234567890ab"),
        ("process", "/tmp/klipper_host_mcu", "/tmp/klipper_host_mcu"),
        ("usb", "/dev/null", "/dev/null"),
        ("usb", "/dev/serial/by-id/gone", ""),
        ("serial", "/dev/serial/by-id/gone", "/dev/serial/by-id/gone"),
        ("serial", "can0:1234567890ab", ""),
    ],
)
def test_port_that_klippy_names_is_compared_in_the_form_of_its_connection(
    host: Host, monkeypatch: pytest.MonkeyPatch, connection: str, serial: str, expected: str
) -> None:
    section = McuSection("mcu", serial, 250000, Firmware("klippy", "v2"))
    host.active, host.status = "active", Status("ready", mcus={"mcu": Firmware("klippy", "v2")}, sections=[section])
    monkeypatch.setattr("fleetflash.agent.can_socket.interface_problem", lambda interface: "")
    ports = {"can": "can0:0badcafe0102", "usb": "usb:9-9"}
    request = SnapshotRequest([Probe("b", ports.get(connection, "/dev/p"), "mcu", connection=connection)], socket="/s")
    assert snapshot.take(request, host.store).boards["b"].klippy_device == expected
