"""An STM32 is entered, read, written only where it may be, and left; a protected one is never opened silently.

The board is a script of AN3155, with the flash of an STM32F103xB (1 KiB pages) or an STM32F446 (sectors).
"""

import struct
from typing import Any

import pytest
from scripted_port import ScriptedPort, ignore, nobody

from fleetflash.agent.port import LineStep
from fleetflash.agent.protocols.errors import NoAnswerError, ProtectedError, RefusedError, VerifyError
from fleetflash.agent.protocols.programmer import Found, Target
from fleetflash.agent.protocols.stm32_rom_programmer import Stm32RomProgrammer
from fleetflash.agent.protocols.wirings import entry_sequence, reset_sequence
from fleetflash.agent.schema import Entry

BASE, ACK, NACK = 0x0800_0000, b"\x79", b"\x1f"
UID = bytes(range(12))
F103, F446 = 0x410, 0x421
WIRING = "reset=rts:0,boot=dtr:0"
LINES = Entry("lines", WIRING)
IMAGE = bytes(range(251)) * 9


class Board(ScriptedPort):
    """``registers``: address → what can be read there beside the flash."""

    def __init__(self, product_id: int = F103, kib: int = 16, mode: str = "application") -> None:
        super().__init__(self.say)
        self.product_id, self.mode = product_id, mode
        self.page = 1024 if product_id == F103 else 16 * 1024
        self.flash = bytearray(b"\xff" * kib * 1024)
        uid, size = (0x1FFF_F7E8, 0x1FFF_F7E0) if product_id == F103 else (0x1FFF_7A10, 0x1FFF_7A22)
        self.registers = {uid: UID, size: struct.pack("<H", kib)}
        self.protected = False
        self.synchronized = False
        self.erased: list[int] = []
        self.went: list[int] = []
        self._steps: list[Any] = []

    def play(self, steps: list[LineStep]) -> None:
        super().play(steps)
        self.synchronized = False
        modes = {str(entry_sequence(WIRING)): "bootloader", str(reset_sequence(WIRING)): "application"}
        self.mode = modes.get(str(steps), self.mode)

    def say(self, written: bytes) -> bytes:
        if self.mode != "bootloader" or self.settings[-2:] != [115200, "E"]:
            return b""
        if written == b"\x7f":
            first, self.synchronized = not self.synchronized, True
            return ACK if first else NACK
        if self._steps:
            return bytes(self._steps.pop(0)(written))
        code = written[0]
        if self.protected and code in (0x11, 0x21, 0x31, 0x43, 0x44):
            return NACK
        return bytes(getattr(self, f"do_{code:02x}")())

    def do_00(self) -> bytes:
        erase = b"\x43" if self.product_id == F103 else b"\x44"
        return ACK + b"\x0b\x22\x00\x01\x02\x11\x21\x31" + erase + b"\x63\x73\x82\x92" + ACK

    def do_02(self) -> bytes:
        return ACK + b"\x01" + struct.pack(">H", self.product_id) + ACK

    def do_11(self) -> bytes:
        def at(written: bytes) -> bytes:
            (self.address,) = struct.unpack(">I", written[:4])
            readable = BASE <= self.address < BASE + len(self.flash) or self.address in self.registers
            if not readable:
                self._steps.clear()
            return ACK if readable else NACK

        def size(written: bytes) -> bytes:
            count = written[0] + 1
            register = self.registers.get(self.address)
            if register is not None:
                return ACK + register[:count]
            start = self.address - BASE
            assert start + count <= len(self.flash), "the chip faults"
            return ACK + bytes(self.flash[start : start + count])

        self._steps += [at, size]
        return ACK

    def do_31(self) -> bytes:
        def at(written: bytes) -> bytes:
            (self.address,) = struct.unpack(">I", written[:4])
            return ACK

        def data(written: bytes) -> bytes:
            start, body = self.address - BASE, written[1:-1]
            assert written[0] + 1 == len(body) and len(body) % 4 == 0
            assert set(self.flash[start : start + len(body)]) == {0xFF}, "programmed without an erase"
            self.flash[start : start + len(body)] = body
            return ACK

        self._steps += [at, data]
        return ACK

    def do_43(self) -> bytes:
        return self._erase(">B")

    def do_44(self) -> bytes:
        return self._erase(">H")

    def _erase(self, layout: str) -> bytes:
        def pages(written: bytes) -> bytes:
            numbers = [number for (number,) in struct.iter_unpack(layout, written[:-1])]
            assert numbers[0] == len(numbers) - 2
            for number in numbers[1:]:
                self.flash[number * self.page : (number + 1) * self.page] = b"\xff" * self.page
            self.erased += numbers[1:]
            return ACK

        self._steps.append(pages)
        return ACK

    def do_21(self) -> bytes:
        def at(written: bytes) -> bytes:
            self.went += struct.unpack(">I", written[:4])
            self.mode = "application"
            return ACK

        self._steps.append(at)
        return ACK

    def do_92(self) -> bytes:
        self.protected, self.mode, self.synchronized = False, "application", False
        self.flash[:] = b"\xff" * len(self.flash)
        return ACK + ACK


def programmer_of(board: Board, offset: int = 0, size: int = 0) -> Stm32RomProgrammer:
    target = Target(BASE, offset, size or len(board.flash) - offset)
    return Stm32RomProgrammer(board, target, lambda: board)


def entered(board: Board, **target: int) -> Stm32RomProgrammer:
    programmer = programmer_of(board, **target)
    programmer.enter(LINES, nobody)
    return programmer


@pytest.mark.parametrize("product_id", [F103, F446])
def test_board_is_entered_with_even_parity_and_says_what_it_is(product_id: int) -> None:
    board = Board(product_id)
    assert entered(board).probe() == Found(f"{product_id:04x}", UID.hex(), protected=False)
    assert board.settings == [115200, "E"] and board.erased == []


def test_unique_id_that_the_bootloader_does_not_read_is_unknown() -> None:
    board = Board()
    board.registers.clear()
    assert entered(board).probe() == Found("0410", "", protected=False)


def test_board_that_is_in_its_bootloader_already_is_not_reset() -> None:
    board = Board(mode="bootloader")
    board.synchronized = True
    programmer_of(board).enter(Entry("none"), nobody)
    assert board.played == []


def test_chip_that_no_wiring_enters_is_told_to_need_a_button() -> None:
    board = Board()
    board.answer = lambda written: b""
    with pytest.raises(NoAnswerError, match=r'did not enter its STM32 bootloader.*entry = "button"'):
        programmer_of(board).enter(LINES, nobody)


@pytest.mark.parametrize(
    ("product_id", "offset", "erased"), [(F103, 0, [0, 1, 2]), (F103, 0x2000, [8, 9, 10]), (F446, 0x4000, [1])]
)
def test_image_is_written_to_the_sectors_that_it_needs_and_no_others(
    product_id: int, offset: int, erased: list[int]
) -> None:
    board = Board(product_id, kib=64)
    board.flash[:] = bytes(len(board.flash))
    programmer = entered(board, offset=offset)
    steps: list[tuple[int, int]] = []
    programmer.write(IMAGE, lambda done, total: steps.append((done, total)))
    programmer.verify(IMAGE, ignore)
    assert board.erased == erased
    assert bytes(board.flash[offset : offset + len(IMAGE)]) == IMAGE
    assert not any(board.flash[:offset]) and not any(board.flash[offset + len(erased) * board.page :])
    assert steps[-1] == (2272, 2272)
    board.flash[offset + 300] ^= 1
    with pytest.raises(VerifyError, match=f"verify at {BASE + offset + 300:#010x}"):
        programmer.verify(IMAGE, ignore)


@pytest.mark.parametrize(("product_id", "offset"), [(F103, 0x2100), (F446, 0x2000)])
def test_erase_that_would_take_something_else_along_is_refused(product_id: int, offset: int) -> None:
    board = Board(product_id, kib=64)
    with pytest.raises(RefusedError, match=r"can't be erased alone.*nothing was erased"):
        entered(board, offset=offset).write(IMAGE, ignore)
    assert board.erased == []


def test_image_beyond_the_sectors_that_are_known_and_unknown_chips_are_refused() -> None:
    board = Board(kib=256)
    with pytest.raises(RefusedError, match="in the 128 KiB"):
        entered(board).write(bytes(129 * 1024), ignore)
    board = Board()
    board.product_id = 0x999
    programmer = entered(board)
    assert programmer.probe() == Found("0999", "", protected=False)
    for attempt in (lambda: programmer.write(IMAGE, ignore), lambda: programmer.read(ignore)):
        with pytest.raises(RefusedError, match="product id 0999 is not known"):
            attempt()
    assert board.erased == []


# Reading


def test_backup_is_the_flash_that_the_chip_has_without_its_erased_end() -> None:
    """The transaction says 128 KiB, this chip's flash size register 16; beyond its flash the chip would fault."""
    board = Board(kib=16)
    board.flash[0x2000 : 0x2000 + len(IMAGE)] = IMAGE
    found = entered(board, offset=0x2000, size=126 * 1024).read(ignore)
    assert found == IMAGE + b"\xff" * (2304 - len(IMAGE))


# Protection


def test_protected_chip_is_neither_read_nor_written_nor_opened() -> None:
    board = Board()
    board.protected = True
    board.flash[:4] = b"code"
    programmer = entered(board)
    assert programmer.probe() == Found("0410", "", protected=True)
    for attempt in (lambda: programmer.write(IMAGE, ignore), lambda: programmer.read(ignore)):
        with pytest.raises(ProtectedError, match="set unprotect = True"):
            attempt()
    programmer.reset()
    assert board.protected and board.flash[:4] == b"code" and board.mode == "application"


def test_protection_is_lifted_when_asked_and_the_board_is_in_its_bootloader_again() -> None:
    board = Board()
    board.protected = True
    programmer = entered(board)
    programmer.unprotect(LINES, nobody)
    assert programmer.probe() == Found("0410", UID.hex(), protected=False)
    programmer.write(IMAGE, ignore)
    programmer.verify(IMAGE, ignore)


# Leaving


def test_wired_board_is_reset_by_its_lines_and_others_by_go() -> None:
    board = Board()
    entered(board).reset()
    assert board.mode == "application" and board.went == [] and board.settings[-1] == "N"
    board = Board(mode="bootloader")
    programmer = programmer_of(board, offset=0x2000)
    programmer.enter(Entry("none"), nobody)
    programmer.reset()
    assert board.went == [BASE] and board.settings[-1] == "N"


def test_leaving_a_running_application_is_nothing() -> None:
    board = Board()
    programmer_of(board).leave()
    assert board.played == [] and board.settings == [115200, "E", "N"]
    board = Board(mode="bootloader")
    programmer_of(board).leave()
    assert board.went == [BASE]


def test_lines_that_are_known_lead_out_of_a_bootloader_that_hangs() -> None:
    board = Board(mode="bootloader")
    board.mode = "hangs"
    Stm32RomProgrammer(board, Target(BASE, wiring=WIRING), lambda: board).leave()
    assert board.played == [reset_sequence(WIRING)] and board.mode == "application"
