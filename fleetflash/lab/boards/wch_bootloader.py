"""The factory bootloader of CH32V20x chips: WCH ISP over the UART.

Sources of the protocol: PROTOCOLS.md; the public tools wchisp (``src/protocol.rs``,
``src/transport/serial.rs``), isp55e0 (``protocol.txt``, captures of WCHISPTool) and BMCU-Klipper
(``scripts/bmcu_isp.py``, used on real BMCU-C). Not documented anywhere and chosen here: the status 0xFE for
refused commands, flash times, and that a chunk that does not continue the one before is refused.
"""

import struct
import time
from collections.abc import Callable
from dataclasses import replace

from fleetflash.lab.boards.chip import DEVICE_TYPE, Chip, uid_from_name
from fleetflash.lab.boards.circuit import Circuit
from fleetflash.lab.boards.faults import Fault
from fleetflash.lab.boards.flash import SECTOR, UNPROTECTED, CodeFlash, FlashError, OptionBytes
from fleetflash.lab.boards.framing import Parity
from fleetflash.lab.boards.line import same_rate
from fleetflash.lab.boards.loop import Timer
from fleetflash.lab.boards.page_buffer import PageBuffer
from fleetflash.lab.boards.wch_frames import (
    END,
    ERASE,
    IDENTIFY,
    KEY,
    NAMES,
    PROGRAM,
    READ_CONFIG,
    SET_BAUD,
    VERIFY,
    WRITE_CONFIG,
    FrameReader,
    response,
    session_key,
)

IDENTIFY_TEXT = b"MCU ISP & WCH.CN"
BOOTLOADER_VERSION = bytes.fromhex("00020700")  # 02.70, as a real CH32V203C8T6 reports

OK = 0x00
REFUSED = 0xFE
MISMATCH = 0xF5

START_BAUD = 115200
BAUDS = (115200, 1_000_000, 2_000_000)
CHUNK = 56
MINIMUM_SECTORS = 8
SEED_LENGTH = 0x1E
CONFIG_MASK = 0x07  # RDPR/USER, DATA and WRP

SECTOR_ERASE_TIME = 0.012  # seconds per KiB: the whole of a 64 KiB chip in 0.8 s
PAGE_PROGRAM_TIME = 0.002
OPTION_WRITE_TIME = 0.02


class WchBootloader:
    """One run of the bootloader, from reset to reset; key, page buffer and rate are its RAM."""

    parity = Parity.NONE

    def __init__(self, circuit: Circuit, chip: Chip, flash: CodeFlash, options: OptionBytes) -> None:
        self._circuit = circuit
        self._chip = chip
        self._flash = flash
        self._options = options
        self._baud = START_BAUD
        self._reader = FrameReader()
        self._busy = False
        self._stopped = False
        self._timer: Timer | None = None
        self._key: bytes | None = None
        self._page = PageBuffer(flash, options)

    def stop(self) -> None:
        self._stopped = True
        if self._timer:
            self._timer.cancel()

    def receive(self, data: bytes, baud: int, at: float) -> None:
        if not same_rate(baud, self._baud):
            return
        self._reader.feed(data, at)
        self._work(at)

    def _work(self, at: float) -> None:
        while not self._busy and not self._stopped and (frame := self._reader.next()):
            self._arrived(frame[0], frame[1], at)

    # Faults

    def _arrived(self, command: int, data: bytes, at: float) -> None:
        name = NAMES.get(command, "")
        start, length = self._covers(command, data)
        fault = self._circuit.faults.take(name, start, length) if name else None
        if fault is None:
            self._execute(command, data, at)
            return
        self._circuit.log(f"fault {fault.kind} at {name} {data[:5].hex()}")
        self._misbehave(fault, command, data, at)

    def _covers(self, command: int, data: bytes) -> tuple[int | None, int]:
        """Which flash bytes a request is about."""
        if command in (PROGRAM, VERIFY) and len(data) >= 5:
            return struct.unpack_from("<I", data)[0], len(data) - 5
        if command == ERASE and len(data) >= 4:
            return 0, SECTOR * struct.unpack_from("<I", data)[0]
        return None, 0

    def _misbehave(self, fault: Fault, command: int, data: bytes, at: float) -> None:
        if fault.kind == "pause":
            self._busy = True
            self._circuit.stall(lambda: self._resume(command, data))
        elif fault.kind == "hang":
            self._busy = True
            self._circuit.stall(None)
        elif fault.kind == "wrong_status":
            self._reply(command, bytes([fault.status, 0]), at)
        elif fault.kind == "garbage":
            self._circuit.send(bytes(range(0x80, 0x90)), self._baud, at)
        elif fault.kind == "power_cut":
            self._cut_short(fault, command, data)
        elif fault.kind == "impostor":
            self._as_another(command, data, at)
        elif fault.kind == "drop_reply":
            self._execute(command, data, at, send=lambda _frame: b"")
        elif fault.kind == "corrupt" and command == PROGRAM:
            flip = 5 + max(0, (fault.byte or 0) - (self._covers(command, data)[0] or 0))
            broken = bytearray(data)
            if flip < len(broken):
                broken[flip] ^= 0x10
            self._execute(command, bytes(broken), at)
        elif fault.kind == "corrupt":
            self._execute(command, data, at, send=lambda frame: frame[:-1] + bytes([frame[-1] ^ 0xFF]))

    def _as_another(self, command: int, data: bytes, at: float) -> None:
        mine = self._chip
        self._chip = replace(mine, chip_id=mine.chip_id ^ 1, uid=uid_from_name("another board"))
        self._execute(command, data, at)
        self._chip = mine

    def _resume(self, command: int, data: bytes) -> None:
        now = time.monotonic()
        self._busy = False
        self._execute(command, data, now)
        self._work(now)

    def _cut_short(self, fault: Fault, command: int, data: bytes) -> None:
        """Do the part of a program or erase before the byte, then lose power with what RAM held."""
        address, _ = self._covers(command, data)
        if fault.byte is not None and address is not None and command == PROGRAM and self._key:
            try:
                self._page.store(address, self._decrypt(data[5 : 5 + max(0, fault.byte - address)]))
            except FlashError as error:
                self._circuit.log(f"program failed: {error}")
        elif fault.byte is not None and command == ERASE:
            self._flash.erase(0, min(fault.byte, self._flash.size))
        self._circuit.power_cut()

    # Commands

    def _execute(self, command: int, data: bytes, at: float, send: Callable[[bytes], bytes] | None = None) -> None:
        """Run one request. ``send`` lets a fault change the frame on its way out."""
        if command == ERASE:
            self._erase(data, at, send)
            return
        if command == IDENTIFY:
            answer = self._identify(data)
        elif command == READ_CONFIG:
            answer = self._read_config(data)
        elif command == WRITE_CONFIG:
            answer, at = self._write_config(data, at)
        elif command == KEY:
            answer = self._make_key(data)
        elif command == PROGRAM:
            answer, at = self._program(data, at)
        elif command == VERIFY:
            answer = self._verify(data)
        elif command in (END, SET_BAUD):
            answer = self._end_or_baud(command, data)
        else:
            answer = bytes([REFUSED, 0])
        self._reply(command, answer, at, send)
        if answer[0] == OK and command == END:
            self._busy = True
            self._circuit.software_reset(at)
        elif answer[0] == OK and command == SET_BAUD:
            self._baud = int(struct.unpack("<I", data)[0])
            self._circuit.log(f"baud {self._baud}")

    def _reply(self, command: int, answer: bytes, at: float, send: Callable[[bytes], bytes] | None = None) -> None:
        frame = response(command, answer)
        self._circuit.send(send(frame) if send else frame, self._baud, at)

    def _identify(self, data: bytes) -> bytes:
        if data[2:] != IDENTIFY_TEXT:
            # isp55e0's protocol.txt: the answer without the text.
            return b"\xf1\x00"
        return bytes([self._chip.chip_id, DEVICE_TYPE])

    def _read_config(self, data: bytes) -> bytes:
        if len(data) != 2:
            return bytes([REFUSED, 0])
        mask = data[0]
        fields = (
            self._options.raw[0:4],
            self._options.raw[4:8],
            self._options.raw[8:12],
            BOOTLOADER_VERSION,
            self._chip.uid,
        )
        chosen = b"".join(field for bit, field in enumerate(fields) if mask >> bit & 1)
        return bytes([mask, 0]) + chosen

    def _write_config(self, data: bytes, at: float) -> tuple[bytes, float]:
        if len(data) != 14 or data[0] != CONFIG_MASK:
            return bytes([REFUSED, 0]), at
        was_protected = self._options.asks_protection or self._options.read_protected
        at += OPTION_WRITE_TIME
        if was_protected and data[2:4] == UNPROTECTED:
            # The chip erases itself before it lets go of the protection, which ends with the next reset.
            self._circuit.log("protection removed: mass erase")
            self._flash.erase(0, self._flash.size)
            at += SECTOR_ERASE_TIME * self._flash.size / SECTOR
        self._options.store(data[2:14])
        return bytes([OK, 0]), at

    def _make_key(self, data: bytes) -> bytes:
        if len(data) < SEED_LENGTH:
            return bytes([REFUSED, 0])
        self._key = session_key(data, self._chip.uid, self._chip.chip_id)
        return bytes([sum(self._key) & 0xFF, 0])

    def _end_or_baud(self, command: int, data: bytes) -> bytes:
        if command == END:
            return bytes([OK if len(data) == 1 else REFUSED, 0])
        known = len(data) == 4 and struct.unpack("<I", data)[0] in BAUDS
        return bytes([OK if known else REFUSED, 0])

    def _erase(self, data: bytes, at: float, send: Callable[[bytes], bytes] | None) -> None:
        sectors = struct.unpack("<I", data)[0] if len(data) == 4 else 0
        if (
            not MINIMUM_SECTORS <= sectors <= self._flash.size // SECTOR
            or self._options.read_protected
            or self._options.write_protected(0, sectors * SECTOR)
        ):
            self._reply(ERASE, bytes([REFUSED, 0]), at, send)
            return
        self._circuit.counters.erases += 1
        self._circuit.log(f"erase {sectors} KiB")
        self._page.clear()
        self._busy = True
        self._erase_sector(0, sectors, at, send)

    def _erase_sector(self, sector: int, sectors: int, at: float, send: Callable[[bytes], bytes] | None) -> None:
        """One sector at a time, each in its own time: a board killed meanwhile is erased up to there."""
        if sector == sectors:
            self._busy = False
            self._reply(ERASE, bytes([OK, 0]), at, send)
            self._work(at)
            return
        self._flash.erase(sector * SECTOR, SECTOR)
        self._timer = self._circuit.loop.at(
            at + SECTOR_ERASE_TIME, lambda due: self._erase_sector(sector + 1, sectors, due, send)
        )

    def _decrypt(self, data: bytes) -> bytes:
        assert self._key is not None
        return bytes(value ^ self._key[index % 8] for index, value in enumerate(data))

    def _chunk(self, data: bytes) -> tuple[int, bytes] | None:
        """Address and plain data of a program or verify request, or None when it cannot be one."""
        if not 5 <= len(data) <= 5 + CHUNK or self._key is None:
            return None
        (address,) = struct.unpack_from("<I", data)
        plain = self._decrypt(data[5:])
        return (address, plain) if address + len(plain) <= self._flash.size else None

    def _program(self, data: bytes, at: float) -> tuple[bytes, float]:
        chunk = self._chunk(data)
        if chunk is None or self._options.read_protected:
            return bytes([REFUSED, 0]), at
        address, plain = chunk
        try:
            if plain:
                self._circuit.counters.programs += 1
                pages = self._page.store(address, plain)
            else:
                # The end of programming: what is left in RAM goes to flash; verifying needs a new key.
                pages = self._page.flush()
                self._key = None
        except FlashError as error:
            self._circuit.log(f"program failed: {error}")
            return bytes([REFUSED, 0]), at + PAGE_PROGRAM_TIME
        return bytes([OK, 0]), at + pages * PAGE_PROGRAM_TIME

    def _verify(self, data: bytes) -> bytes:
        chunk = self._chunk(data)
        if chunk is None:
            return bytes([REFUSED, 0])
        self._circuit.counters.verifies += 1
        address, plain = chunk
        if self._options.read_protected or self._flash.read(address, len(plain)) != plain:
            return bytes([MISMATCH, 0])
        return bytes([OK, 0])
