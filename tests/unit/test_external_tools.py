"""Programmers through other tools: found, of a known version, given exactly these arguments, and believed only so far.

The tools are fakes that behave as documented (``fake_tools``); none of this has met USB.
"""

import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_tools import BASE, SOCKET, Bench

from fleetflash.agent import board as board_module
from fleetflash.agent import usb_socket
from fleetflash.agent.board import BoardOnPort
from fleetflash.agent.connections import UsbConnection
from fleetflash.agent.port import PortAbsentError
from fleetflash.agent.protocols import dfu_util, external_tool, flashtool, make_flash, picotool, usb_tool, wchisp
from fleetflash.agent.protocols.errors import (
    CannotReadError,
    NoAnswerError,
    ProtectedError,
    ProtocolError,
    VerifyError,
    WrongChipError,
)
from fleetflash.agent.protocols.external_tool import ToolError, ToolMissingError, ToolVersionError
from fleetflash.agent.protocols.programmer import Found, Target
from fleetflash.agent.protocols.usb_tool import UsbTool
from fleetflash.agent.schema import BoardTransaction, Entry, Firmware, Image

REQUEST, BUTTON = Entry("request"), Entry("button", deadline=5.0)
IMAGE = bytes(range(256)) * 3 + b"end"
NAME = f"usb:{SOCKET}"
#: tool → (programmer, a version that is known, USB ids of its bootloader, base and offset of the application)
TOOLS: dict[str, tuple[Any, str, str, int, int]] = {
    "dfu-util": (dfu_util.DfuUtilProgrammer, "0.11", "0483:df11", BASE, 0),
    "picotool": (picotool.PicotoolProgrammer, "2.1.0", "2e8a:0003", 0x1000_0000, 0),
    "wchisp": (wchisp.WchispProgrammer, "0.3.0", "4348:55e0", BASE, 0),
    "flashtool.py": (flashtool.FlashtoolProgrammer, "", "1d50:6177", BASE, 0x8000),
    "make": (make_flash.MakeFlashProgrammer, "4.3", "0483:df11", BASE, 0x8000),
}


def ignore(done: int, total: int) -> None: ...


def nobody(gesture: str, seconds: float) -> None:
    raise AssertionError(f"nobody is asked to {gesture}")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usb_tool, "RETURN_SECONDS", 0.3)
    monkeypatch.setattr(usb_tool, "_PAUSE", 0.01)


Boards = Callable[..., tuple[Bench, Any]]


@pytest.fixture
def board(tmp_path: Path) -> Boards:
    """A board in its bootloader, and its programmer, whose tool is named by its path."""

    def make(name: str, touched: Callable[[Bench], None] = lambda bench: None, **options: str) -> tuple[Bench, Any]:
        kind, version, ids, base, offset = TOOLS[name]
        bench = Bench(tmp_path, name, version, kind.SPEC.version_arguments, ids)
        if name == "flashtool.py":
            bench.add_tty()
        if name == "make":
            configure(tmp_path)
            options.setdefault("directory", str(tmp_path / "klipper"))
        target = Target(base, offset, 4096, 250000, {"tool": str(bench.path), **options})
        socket = bench.socket(lambda: touched(bench))
        return bench, kind(socket, target, lambda: socket)

    return make


def configure(root: Path, mcu: str = "stm32f446xx", address: str = "0x8008000") -> Path:
    checkout = root / "klipper"
    (checkout / "out").mkdir(parents=True, exist_ok=True)
    (checkout / ".config").write_text(f'CONFIG_MCU="{mcu}"\nCONFIG_FLASH_APPLICATION_ADDRESS={address}\n')
    (checkout / "out/klipper.bin").write_bytes(b"their own build")
    return checkout


# Every tool


@pytest.mark.parametrize(
    ("tool", "chip", "uid"),
    [
        ("dfu-util", "0483:df11/512", "357236543131"),
        ("picotool", "rp2040", ""),
        ("wchisp", "19:31", "cdab1a35e2bdc99e"),
        ("flashtool.py", "stm32f446xx", ""),
        ("make", "stm32f446xx", ""),
    ],
)
def test_board_is_probed_written_compared_and_started(board: Boards, tool: str, chip: str, uid: str) -> None:
    bench, programmer = board(tool)
    programmer.enter(REQUEST, nobody)
    assert programmer.probe() == Found(chip, uid)
    programmer.write(IMAGE, ignore)
    offset = TOOLS[tool][4]
    assert bench.flash.read_bytes()[offset : offset + len(IMAGE)] == IMAGE
    programmer.verify(IMAGE, ignore)
    programmer.reset()
    assert bench.socket().ids() == "1d50:614e"


@pytest.mark.parametrize("tool", ["dfu-util", "picotool"])
def test_old_firmware_is_read_back_without_what_is_erased_at_its_end(board: Boards, tool: str) -> None:
    bench, programmer = board(tool)
    bench.flash.write_bytes(IMAGE.ljust(0x1_0000, b"\xff"))
    assert programmer.read(ignore) == IMAGE.ljust(1024, b"\xff")


@pytest.mark.parametrize("tool", ["wchisp", "flashtool.py", "make"])
def test_tool_that_reads_nothing_says_so(board: Boards, tool: str) -> None:
    _, programmer = board(tool)
    assert not programmer.capabilities.read_back
    with pytest.raises(CannotReadError, match=f"{NAME}: .* does not read code flash"):
        programmer.read(ignore)


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_tool_that_is_missing_is_named_with_how_to_get_it(board: Boards, tool: str, monkeypatch: Any) -> None:
    bench, programmer = board(tool, tool="/nowhere/at/all")
    with pytest.raises(ToolMissingError, match=f"{NAME}: /nowhere/at/all is no program"):
        programmer.enter(REQUEST, nobody)
    monkeypatch.setenv("PATH", str(bench.root))
    bench, programmer = bench, type(programmer)(programmer.port, Target(), lambda: programmer.port)
    with pytest.raises(ToolMissingError, match=rf"{tool} is not on this host \(.+\)"):
        programmer.enter(REQUEST, nobody)
    assert bench.calls() == []


@pytest.mark.parametrize("tool", sorted(TOOLS))
def test_tool_is_found_on_path(board: Boards, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, programmer = board(tool)
    monkeypatch.setenv("PATH", f"{bench.path.parent}:{os.environ['PATH']}")
    found = type(programmer)(programmer.port, Target(), lambda: programmer.port)
    assert found.tool.check()


@pytest.mark.parametrize(
    ("tool", "version"),
    [
        *[("dfu-util", "0.8"), ("dfu-util", "0.12"), ("picotool", "1.1.2"), ("picotool", "3.0.0")],
        *[("wchisp", "0.4.0"), ("wchisp", "0.2.1"), ("make", "3.82"), ("make", "5.0")],
    ],
)
def test_version_whose_arguments_nobody_knows_is_refused_before_the_board_is_touched(
    board: Boards, tool: str, version: str
) -> None:
    bench, programmer = board(tool)
    bench.change(version=version)
    with pytest.raises(ToolVersionError, match=f"is version {version}; its arguments are known of"):
        programmer.enter(REQUEST, nobody)
    assert bench.calls() == []


def test_tool_that_does_not_say_its_version_is_an_error_with_what_it_said(board: Boards) -> None:
    bench, programmer = board("flashtool.py")
    bench.change(version="old")
    with pytest.raises(ToolError, match=r"flashtool.py does not say its version; it said: .*--request-bootloader"):
        programmer.enter(REQUEST, nobody)
    bench.path.write_text("#!/nowhere/python\n")
    with pytest.raises(ToolError, match="No such file"):
        programmer.enter(REQUEST, nobody)


def test_error_names_tool_version_exit_code_and_last_lines(board: Boards) -> None:
    bench, programmer = board("dfu-util")
    bench.change(fault="erase")
    with pytest.raises(ToolError, match=r"usb:1-1.2: dfu-util 0.11 ended with exit code 74; it said: .*ERASE_PAGE"):
        programmer.write(IMAGE, ignore)


def test_tool_that_hangs_is_killed_with_all_that_it_has_started(board: Boards, monkeypatch: Any) -> None:
    bench, programmer = board("dfu-util")
    monkeypatch.setattr(dfu_util, "QUICK_SECONDS", 1.0)
    bench.change(fault="hang")
    with pytest.raises(ToolError, match=r"dfu-util 0.11 did not end within 1 s and was killed"):
        programmer.probe()
    child = int((bench.path.parent / "child").read_text())
    deadline = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < deadline, "what the tool has started goes on"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_what_a_tool_says_is_kept_in_the_journal_and_its_last_lines_are_cut_for_the_record(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "chatty"
    script.write_text(
        f"#!{sys.executable}\nfor n in range(50): print(f'line {{n}} ' + 'x' * 300)\nraise SystemExit(3)\n"
    )
    script.chmod(0o755)
    code, output = external_tool._run([str(script), "a", "b"], 20.0)
    assert code == 3 and output.count("\n") == 50
    kept = capfd.readouterr().err
    assert f"$ {script} a b" in kept and "line 0 " in kept and "line 49 " in kept
    tool = external_tool.ExternalTool(dfu_util.DfuUtilProgrammer.SPEC, "", NAME)
    message = str(tool._error("failed", output))
    assert "line 49" in message and "line 43 " not in message and len(message) < 1500 and "\n" not in message


# Entering and leaving


def test_running_firmware_is_asked_and_its_bootloader_waited_for(board: Boards) -> None:
    bench, programmer = board("dfu-util", touched=lambda bench: bench.become("0483:df11"))
    bench.become("1d50:614e")
    programmer.enter(REQUEST, nobody)
    assert bench.socket().ids() == "0483:df11"


def test_firmware_that_does_not_make_way_is_an_error_that_says_what_is_there(board: Boards) -> None:
    bench, programmer = board("picotool")
    bench.become("1d50:614e")
    with pytest.raises(NoAnswerError, match=r"\(2e8a:0003\) when asked by 1200 bit/s, it is 1d50:614e; hold BOOTSEL"):
        programmer.enter(REQUEST, nobody)


def test_person_is_asked_and_waited_for(board: Boards) -> None:
    bench, programmer = board("wchisp")
    bench.become("1d50:614e")
    programmer.enter(BUTTON, lambda gesture, seconds: bench.become("1a86:55e0"))
    assert programmer.probe().chip_id == "19:31"


def test_leaving_a_running_application_is_nothing_and_a_bootloader_is_left(board: Boards) -> None:
    bench, programmer = board("dfu-util")
    programmer.leave()
    assert bench.socket().ids() == "1d50:614e"
    calls = bench.calls()
    programmer.leave()
    assert bench.calls() == calls


def test_board_that_stays_in_its_bootloader_is_an_error(board: Boards, monkeypatch: pytest.MonkeyPatch) -> None:
    _, programmer = board("picotool")
    monkeypatch.setattr(programmer, "_start", lambda: None)
    with pytest.raises(NoAnswerError, match="still in its bootloader"):
        programmer.reset()


def test_no_protection_is_lifted_by_a_tool(board: Boards) -> None:
    bench, programmer = board("dfu-util")
    with pytest.raises(ProtocolError, match="not lifted through dfu-util"):
        programmer.unprotect(REQUEST, nobody)
    assert bench.calls() == []


# Arguments


def test_arguments_of_each_tool() -> None:
    place = ["-d", "0483:df11", "-p", "1-1.2", "-a", "0"]
    assert dfu_util.write_arguments("1-1.2", 0x0800_8000, "f") == [*place, "-s", "0x08008000", "-D", "f"]
    assert dfu_util.read_arguments("1-1.2", BASE, 4096, "f") == [*place, "-s", "0x08000000:4096", "-U", "f"]
    assert dfu_util.leave_arguments("1-1.2", BASE, "f") == [*place, "-s", "0x08000000:4:leave", "-U", "f"]
    where = ["--bus", "1", "--address", "11"]
    at = ["-t", "bin", "-o", "0x10004000"]
    assert picotool.load_arguments(("1", "11"), 0x1000_4000, "f") == ["load", "-v", "f", *at, *where]
    assert picotool.verify_arguments(("1", "11"), 0x1000_4000, "f") == ["verify", "f", *at, *where]
    save = ["save", "-r", "0x10000000", "0x10001000", "f", "-t", "bin"]
    assert picotool.save_arguments(("1", "11"), 0x1000_0000, 0x1000_1000, "f") == [*save, *where]
    assert picotool.reboot_arguments(("1", "11")) == ["reboot", "-a", *where]
    first = ["--usb", "--device", "0"]
    assert wchisp.flash_arguments("f") == [*first, "flash", "--no-verify", "--no-reset", "f"]
    assert wchisp.verify_arguments("f") == [*first, "verify", "f"]
    assert flashtool.flash_arguments("/dev/ttyACM0", "f") == ["-d", "/dev/ttyACM0", "-f", "f"]
    assert flashtool.status_arguments("/dev/ttyACM0") == ["-d", "/dev/ttyACM0", "-s"]
    kept = ["-o", "out/klipper.elf", "-o", "out/klipper.bin"]
    device = "FLASH_DEVICE=/dev/ttyACM0"
    assert make_flash.flash_arguments("/k", "/dev/ttyACM0") == [
        "-C",
        "/k",
        "--no-print-directory",
        *kept,
        "flash",
        device,
    ]


@pytest.mark.parametrize(
    ("memory_map", "kib"),
    [
        ("  /0x08000000/04*016Kg,01*064Kg,03*128Kg", 512),
        ("   /0x08000000/64*02Kg", 128),
        ("  /0x08000000/128*0001Kg", 128),
        ("  /0x08000000/1536*128g", 192),
        ("  /0x08000000/00*002Ka,120*002Kg", 240),
        ("", 0),
    ],
)
def test_size_of_the_flash_is_read_from_the_memory_map(memory_map: str, kib: int) -> None:
    assert dfu_util.flash_kib(memory_map) == kib


# What each tool can do wrong


@pytest.mark.parametrize(("tool", "error"), [("dfu-util", VerifyError), ("picotool", ToolError), ("wchisp", ToolError)])
def test_flash_that_differs_from_the_image_fails_verify(board: Boards, tool: str, error: type[Exception]) -> None:
    bench, programmer = board(tool)
    bench.change(fault="flip")
    programmer.write(IMAGE, ignore)
    with pytest.raises(error, match=r"0x08000005|incorrect value|mismatch"):
        programmer.verify(IMAGE, ignore)


def test_dfu_util_that_ends_well_without_having_written_is_not_believed(board: Boards) -> None:
    bench, programmer = board("dfu-util")
    bench.change(fault="silent")
    with pytest.raises(ToolError, match="did not say 'File downloaded successfully'"):
        programmer.write(IMAGE, ignore)


def test_dfu_util_sees_exactly_the_one_board_in_the_socket(board: Boards) -> None:
    bench, programmer = board("dfu-util")
    bench.change(layout="@SPI Flash: Config/0x00002000/030*04Kg")
    with pytest.raises(ToolError, match=r"lists 0 devices with internal flash in usb:1-1.2, not 1"):
        programmer.probe()


def test_wchisp_can_not_tell_two_boards_apart(board: Boards) -> None:
    bench, programmer = board("wchisp")
    other = bench.device.with_name("1-1.3")
    other.mkdir()
    (other / "idVendor").write_text("1a86")
    (other / "idProduct").write_text("55e0")
    for job in (programmer.probe, lambda: programmer.write(IMAGE, ignore), lambda: programmer.verify(IMAGE, ignore)):
        with pytest.raises(ProtocolError, match="2 WCH boards are in their bootloader"):
            job()
    assert bench.calls() == []


def test_wchisp_writes_no_protected_chip(board: Boards) -> None:
    bench, programmer = board("wchisp")
    bench.change(fault="protected")
    assert programmer.probe().protected
    with pytest.raises(ProtectedError, match="read-protected"):
        programmer.write(IMAGE, ignore)
    assert bench.flash.read_bytes() == b"\xff" * 0x1_0000


def test_katapult_that_starts_applications_elsewhere_is_told_before_flashtool_writes(board: Boards) -> None:
    bench, programmer = board("flashtool.py")
    bench.change(start="0x8004000")
    with pytest.raises(WrongChipError, match=r"starts applications at 0x8004000.*flash_offset = 0x4000"):
        programmer.probe()


def test_flashtool_whose_own_verify_fails_is_an_error(board: Boards) -> None:
    bench, programmer = board("flashtool.py")
    bench.change(fault="verify")
    with pytest.raises(ToolError, match=r"Katapult Flash Tool ended with exit code 255.*Checksum mismatch"):
        programmer.write(IMAGE, ignore)


def test_flashtool_needs_the_serial_device_of_katapult(board: Boards) -> None:
    bench, programmer = board("flashtool.py")
    bench.remove_tty()
    with pytest.raises(ProtocolError, match="no serial device is there, but 1d50:6177"):
        programmer.probe()


@pytest.mark.parametrize("fault", ["", "flash"])
def test_make_flashes_the_image_and_their_own_build_is_put_back(board: Boards, tmp_path: Path, fault: str) -> None:
    bench, programmer = board("make")
    bench.change(fault=fault)
    if fault:
        with pytest.raises(ToolError, match=r"make 4.3 ended with exit code 2.*Unable to find bootloader"):
            programmer.write(IMAGE, ignore)
    else:
        programmer.write(IMAGE, ignore)
    built = tmp_path / "klipper/out/klipper.bin"
    assert built.read_bytes() == b"their own build" and built.stat().st_mtime == 0
    assert bench.calls()[-1][-2:] == ["flash", "FLASH_DEVICE=0483:df11"]


@pytest.mark.parametrize(("mcu", "address"), [("stm32f446xx", "0x8000000"), ("", "0x8008000")])
def test_checkout_that_is_for_something_else_flashes_nothing(
    board: Boards, tmp_path: Path, mcu: str, address: str
) -> None:
    bench, programmer = board("make")
    configure(tmp_path, mcu, address)
    with pytest.raises(ProtocolError, match=r"expected an application at 0x08008000"):
        programmer.write(IMAGE, ignore)
    (tmp_path / "klipper/.config").unlink()
    with pytest.raises(ProtocolError, match="no configured Klipper checkout"):
        programmer.probe()
    assert bench.calls() == []


# The socket


def test_socket_says_what_is_in_it_and_not_what_is_behind_it(board: Boards) -> None:
    bench, _ = board("dfu-util")
    (bench.device / "1-1.2.1/1-1.2.1:1.0/tty/ttyACM9").mkdir(parents=True)
    socket = bench.socket()
    assert (socket.ids(), socket.bus(), socket.number(), socket.tty()) == ("0483:df11", "1", "11", "")
    bench.add_tty("ttyACM3")
    assert socket.tty() == "/dev/ttyACM3" and socket.serial() == "357236543131"
    assert usb_socket.UsbSocket("usb:9-9", bench.root / "sys").ids() == ""


def test_board_in_a_socket_is_its_serial_device_while_there_is_one(board: Boards, monkeypatch: Any) -> None:
    bench, _ = board("dfu-util")
    monkeypatch.setattr(
        "fleetflash.agent.connections.UsbSocket", lambda port: usb_socket.UsbSocket(port, bench.root / "sys")
    )
    usb = UsbConnection()
    assert usb.locate(NAME, [], False, "") == [NAME]
    with pytest.raises(PortAbsentError, match="no serial device is there, but 0483:df11; the firmware does not run"):
        usb.open_application(NAME, 250000, 0.05)
    bench.add_tty()
    assert usb.locate(NAME, [], False, "") == ["/dev/ttyACM0"]
    assert usb.locate("usb:9-9", [], False, "") == [] and "nothing is plugged into usb:9-9" in usb.absence("usb:9-9")


def test_every_programmer_of_this_kind_declares_its_tool_as_an_option() -> None:
    for kind, *_ in TOOLS.values():
        assert (
            issubclass(kind, UsbTool) and kind.capabilities.connection == "usb" and "tool" in kind.capabilities.options
        )


# Under a transaction


def test_board_of_a_transaction_is_written_and_taken_back_through_its_tool(
    board: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, _ = board("dfu-util")
    in_sysfs = functools.partial(usb_socket.UsbSocket, sys=bench.root / "sys")
    monkeypatch.setattr("fleetflash.agent.connections.UsbSocket", in_sysfs)
    monkeypatch.setattr(board_module, "PORT_SECONDS", 0.0)
    described = BoardTransaction(
        name="main",
        port=NAME,
        device=NAME,
        chip="stm32f446xe",
        chip_ids=["0483:df11/512"],
        flash_size=4096,
        programmer="dfu_util",
        entry=REQUEST,
        expected=Firmware("none"),
        wanted=Image("a", "0" * 64, len(IMAGE), "v2", klipper=False),
        way_back=None,
        flash_base=BASE,
        options={"tool": str(bench.path)},
    )

    def no_serial_port(device: str, baud: int) -> Any:
        raise AssertionError(f"{device} was opened as a serial port")

    bench.flash.write_bytes(b"former".ljust(0x1_0000, b"\xff"))
    with BoardOnPort(described, no_serial_port).in_bootloader(nobody, "") as session:
        assert session.uid == "357236543131"
        backup = session.read(lambda phase: ignore)
        session.write(IMAGE, lambda phase: ignore)
        session.programmer.reset()
    assert bench.flash.read_bytes().startswith(IMAGE) and bench.socket().ids() == "1d50:614e"
    bench.become("0483:df11")
    with BoardOnPort(described, no_serial_port).in_bootloader(nobody, session.uid) as session:
        session.write(backup, lambda phase: ignore)
    assert bench.flash.read_bytes().startswith(b"former\xff")
    bench.become("0483:df11")
    with pytest.raises(WrongChipError, match="unique id 357236543131, expected 00"):
        BoardOnPort(described, no_serial_port).in_bootloader(nobody, "00").__enter__()
    assert bench.socket().ids() == "1d50:614e"
