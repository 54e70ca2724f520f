"""A board is found where it is, left in peace while it starts, and known by its USB serial number if need be."""

from dataclasses import replace
from typing import Any

import pytest

from fleetflash.agent import board as board_module
from fleetflash.agent import devices
from fleetflash.agent.board import BoardOnPort, WrongFirmwareError
from fleetflash.agent.port import PortError
from fleetflash.agent.protocols import esp_boot_log, klipper
from fleetflash.agent.protocols.errors import WrongChipError
from fleetflash.agent.protocols.esp_boot_log import BootLog
from fleetflash.agent.protocols.programmer import Capabilities, Found, Pace, Target
from fleetflash.agent.schema import BoardTransaction, Entry, Firmware, Image

BY_ID, BY_PATH = "/dev/serial/by-id/usb-Klipper_x-if00", "/dev/serial/by-path/usb-0:1.2"
IMAGE = Image("a", "1" * 64, 1, "v2")
BOARD = BoardTransaction(
    name="toolhead",
    port=BY_ID,
    device="/dev/ttyACM0",
    chip="stm32f103xb",
    chip_ids=["stm32f103xe"],
    flash_size=0x1_E000,
    programmer="katapult",
    entry=Entry("request"),
    expected=Firmware("klippy", "v1"),
    wanted=IMAGE,
    way_back=None,
    flash_base=0x0800_0000,
    flash_offset=0x2000,
    by_path=BY_PATH,
)


class Ports:
    """Where names lead, and what happened to ports and boards, in order."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {BY_ID: names.get("by_id", []), BY_PATH: names.get("by_path", [])}
        self.events: list[str] = []

    def open(self, device: str, baud: int) -> Any:
        self.events.append(f"open {device}")
        return OpenPort(self, device)


class OpenPort:
    def __init__(self, ports: Ports, name: str) -> None:
        self.ports, self.name = ports, name

    def close(self) -> None:
        self.ports.events.append(f"close {self.name}")


class Programmer:
    """It comes back under another device when it is entered."""

    capabilities = Capabilities(True, ("request",), Pace(250000, 64, 28, 4.0), quiet=2.0, moves=True)
    found = Found("stm32f103xe", "")

    def __init__(self, port: OpenPort, target: Target, reopen: Any) -> None:
        self.port, self.target, self.reopen = port, target, reopen

    def enter(self, entry: Entry, ask: object) -> None:
        self.port.ports.names = {BY_ID: [], BY_PATH: ["/dev/ttyACM1"]}
        self.port.close()
        self.port = self.reopen()

    def probe(self) -> Found:
        return self.found

    def leave(self) -> None:
        self.port.ports.events.append("leave")


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> Ports:
    ports = Ports(by_id=["/dev/ttyACM0"], by_path=["/dev/ttyACM0"])
    monkeypatch.setattr(devices, "list_ports", lambda holders: [])
    monkeypatch.setattr(devices, "candidates", lambda name, seen: ports.names[name])
    monkeypatch.setattr(devices, "native_serial_number", lambda device: f"aa{device[-1:]}0")
    monkeypatch.setattr(board_module, "PROGRAMMERS", {"katapult": Programmer})
    monkeypatch.setattr(board_module, "PORT_SECONDS", 0.0)
    monkeypatch.setattr(board_module.time, "sleep", lambda seconds: ports.events.append(f"sleep {seconds:g}"))
    return ports


def test_board_is_followed_to_the_device_that_has_its_place(ports: Ports) -> None:
    with BoardOnPort(BOARD, ports.open).in_bootloader(lambda gesture, seconds: None, "") as session:
        assert session.port.name == "/dev/ttyACM1"
        assert session.programmer.target == Target(0x0800_0000, 0x2000, 0x1_E000, 250000)  # type: ignore[attr-defined]
    assert ports.events == ["open /dev/ttyACM0", "close /dev/ttyACM0", "open /dev/ttyACM1", "close /dev/ttyACM1"]


def test_the_wiring_that_led_in_is_known_when_the_board_has_to_be_led_out(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    led_out: list[str] = []
    monkeypatch.setattr(Programmer, "wiring", "reset=rts:0,boot=dtr:0", raising=False)
    monkeypatch.setattr(Programmer, "leave", lambda programmer: led_out.append(programmer.target.wiring))
    board = BoardOnPort(BOARD, ports.open)
    board.leave_bootloader()
    with board.in_bootloader(lambda gesture, seconds: None, ""):
        pass
    board.leave_bootloader()
    given = replace(BOARD, entry=Entry("lines", "reset=dtr:0,boot=rts:1"))
    BoardOnPort(given, ports.open).leave_bootloader()
    assert led_out == ["", "reset=rts:0,boot=dtr:0", "reset=dtr:0,boot=rts:1"]


def test_board_that_is_nowhere_is_named(ports: Ports) -> None:
    ports.names = {BY_ID: [], BY_PATH: []}
    with pytest.raises(PortError, match=f"toolhead: port {BY_ID} is not there"):
        BoardOnPort(BOARD, ports.open).leave_bootloader()
    ports.names = {BY_ID: ["/dev/ttyACM0", "/dev/ttyACM1"], BY_PATH: ["/dev/ttyACM1"]}
    with pytest.raises(PortError, match="means /dev/ttyACM0 and /dev/ttyACM1"):
        BoardOnPort(BOARD, ports.open).leave_bootloader()


def test_board_that_keeps_its_name_is_not_looked_for_elsewhere(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Programmer, "capabilities", replace(Programmer.capabilities, moves=False))
    ports.names = {BY_ID: [], BY_PATH: ["/dev/ttyACM1"]}
    with pytest.raises(PortError, match=f"toolhead: port {BY_ID} is not there"):
        BoardOnPort(BOARD, ports.open).leave_bootloader()
    assert ports.events == []


def test_usb_serial_number_is_the_unique_id_of_a_board_that_tells_no_other(ports: Ports) -> None:
    board = BoardOnPort(BOARD, ports.open)
    with board.in_bootloader(lambda gesture, seconds: None, "aa10") as session:
        assert session.uid == "aa10"
    with (
        pytest.raises(WrongChipError, match="found the board with unique id aa10, expected bb00"),
        board.in_bootloader(lambda gesture, seconds: None, "bb00"),
    ):
        raise AssertionError("entered")
    assert ports.events[-2:] == ["leave", "close /dev/ttyACM1"]


def test_board_that_tells_no_unique_id_is_not_the_one_that_told_it(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "native_serial_number", lambda device: "")
    board = BoardOnPort(BOARD, ports.open)
    with (
        pytest.raises(WrongChipError, match="tells no unique id, expected aa10; nothing was erased"),
        board.in_bootloader(lambda gesture, seconds: None, "aa10"),
    ):
        raise AssertionError("entered")
    assert ports.events[-2:] == ["leave", "close /dev/ttyACM1"]
    with board.in_bootloader(lambda gesture, seconds: None, "") as session:
        assert session.uid == ""


def test_unique_id_of_the_chip_counts_more_than_a_serial_number(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Programmer, "found", replace(Programmer.found, uid="1234"))
    with BoardOnPort(BOARD, ports.open).in_bootloader(lambda gesture, seconds: None, "1234") as session:
        assert session.uid == "1234"


def test_board_is_left_in_peace_for_as_long_as_its_bootloader_listens(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    def identify(port: OpenPort, **_: object) -> klipper.Dictionary:
        ports.events.append("ask")
        return klipper.Dictionary("v2", "", {}, b"")

    monkeypatch.setattr(klipper, "identify", identify)
    assert BoardOnPort(BOARD, ports.open).identify(250000).version == "v2"
    assert ports.events == ["open /dev/ttyACM0", "sleep 2", "ask", "close /dev/ttyACM0"]


@pytest.mark.parametrize(("told", "words"), [("1234", "with unique id 1234"), ("", "that tells no unique id")])
def test_other_board_that_only_an_erase_made_tell_its_unique_id_is_said_to_be_erased(
    ports: Ports, monkeypatch: pytest.MonkeyPatch, told: str, words: str
) -> None:
    def lift(self: Programmer, entry: Entry, ask: object) -> None:
        self.found = Found("stm32f103xe", told)

    monkeypatch.setattr(devices, "native_serial_number", lambda device: "")
    monkeypatch.setattr(Programmer, "found", replace(Programmer.found, protected=True))
    monkeypatch.setattr(Programmer, "unprotect", lift, raising=False)
    board = BoardOnPort(replace(BOARD, unprotect=True), ports.open)
    with (
        pytest.raises(WrongChipError, match=f"{words}, expected 5678; its protection was lifted, which has erased"),
        board.in_bootloader(lambda gesture, seconds: None, "5678") as session,
    ):
        session.unprotect_if_asked(lambda gesture, seconds: None)


GATEWAY = Image("a", "1" * 64, 1, "v2", constants={"elf_sha256": "7f3c2a1b0" + "0" * 55}, klipper=False, esp=True)


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        (BootLog("v2", "gateway", "7f3c2a1b0"), ""),
        (BootLog("v2"), ""),
        (BootLog(), ""),
        (BootLog("v1", "gateway", "7f3c2a1b0"), "boots v1, expected v2"),
        (BootLog("v2", "gateway", "deadbeef0"), "boots another build of v2"),
        (BootLog("v2", trouble="Brownout detector was triggered"), "does not run v2: Brownout detector"),
    ],
)
def test_what_an_esp_chip_boots_is_what_was_written(
    ports: Ports, monkeypatch: pytest.MonkeyPatch, heard: BootLog, words: str
) -> None:
    monkeypatch.setattr(esp_boot_log, "watch", lambda port, **_: heard)
    on_port = BoardOnPort(BOARD, ports.open)
    if words:
        with pytest.raises(WrongFirmwareError, match=words):
            on_port.check_runs(GATEWAY)
    else:
        on_port.check_runs(GATEWAY)
    assert ports.events[-1] == "close /dev/ttyACM0"
