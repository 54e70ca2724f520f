"""The ISP protocol of WCH chips' factory bootloader, on a UART (CH32V203 on a BMCU-C).

Source of the facts: the public sources of wchisp (ch32-rs/wchisp: ``protocol.rs``, ``flashing.rs``,
``transport/serial.rs``, ``devices/0x19-CH32V20x.yaml``).

- Request ``57 AB | command | length (16 bit LE) | data | sum``,
  response ``55 AA | command | 00 | length | data | sum``; the sum is that of all bytes from the command on, modulo 256.
- The bootloader starts at 115200 bit/s. It cannot read code flash back.
- Responses to commands that change something begin with a status byte: 0 is success. wchisp 0.3 looks at it only for
  verify, so there a failed program passes; here every one is checked.
- Chunks are multiples of 8 bytes (isp55e0 ``isp55e0.c``: "as upload protocol requires it"; wchisp pads to 1 KiB,
  BMCU-Klipper's ``scripts/bmcu_isp.py`` to 56), so the last one is filled up with 0xFF.
"""

import struct
from dataclasses import dataclass
from typing import Callable

from fleetflash.agent.port import Port
from fleetflash.agent.protocols.errors import (
    NoAnswerError,
    ProtectedError,
    ProtocolError,
    RefusedError,
    VerifyError,
)

BAUDRATE = 115200
#: What C5 can be asked for, fastest first; 1 Mbaud is what CH340 and BMCU-C carry reliably.
FAST_BAUDRATE = 1_000_000
CHUNK = 56
ALIGNMENT = 8
SECTOR = 1024
#: The bootloader refuses to erase fewer sectors than this.
MIN_SECTORS = 8
CONFIG_ALL = 0x1F
CONFIG_OPTION_BYTES = 0x07
UNPROTECTED = 0xA5

IDENTIFY, END, KEY, ERASE, PROGRAM, VERIFY = 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6
READ_CONFIG, WRITE_CONFIG, SET_BAUD = 0xA7, 0xA8, 0xC5
NAMES = {
    IDENTIFY: "identify",
    END: "reset",
    KEY: "set key",
    ERASE: "erase",
    PROGRAM: "program",
    VERIFY: "verify",
    READ_CONFIG: "read config",
    WRITE_CONFIG: "write config",
    SET_BAUD: "set baud rate",
}
UNSUPPORTED, MISMATCH = 0xFE, 0xF5
MAGIC = b"MCU ISP & WCH.CN"
SEED = bytes(0x1E)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Chip:
    """What the bootloader says of itself: ids as in WCH's tables, the 8-byte unique id in hexadecimal."""

    chip_id: int
    device_type: int
    uid: str
    bootloader: str
    protected: bool


def frame(command: int, data: bytes) -> bytes:
    """Return a request."""
    body = struct.pack("<BH", command, len(data)) + data
    return b"\x57\xab" + body + bytes([sum(body) & 0xFF])


def session_key(uid: bytes, chip_id: int) -> bytes:
    """Return the 8-byte XOR key that an all-zero seed gives."""
    total = sum(uid) & 0xFF
    return bytes([total] * 7 + [(total + chip_id) & 0xFF])


def _filled_up(image: bytes) -> bytes:
    return image + b"\xff" * (-len(image) % ALIGNMENT)


class WchIsp:
    """A conversation with one bootloader. Methods raise ``ProtocolError`` or a subclass when the board objects."""

    def __init__(self, port: Port):
        self.port = port
        self._uid = b""
        self._chip_id = 0
        self._key = b""

    def identify(self, timeout: float = 0.5) -> "Chip":
        """Return the chip in the bootloader, or raise ``NoAnswerError`` when nothing speaks ISP."""
        answer = self._transfer(IDENTIFY, b"\x00\x00" + MAGIC, timeout)
        if len(answer) < 2:
            raise ProtocolError(f"{self.port.name}: identify: expected 2 bytes, got {answer.hex()}")
        chip_id, device_type = answer[0], answer[1]
        config = self._read_config(CONFIG_ALL, 24, timeout)
        self._uid, self._chip_id = config[16:24], chip_id
        version = config[12:16]
        return Chip(
            chip_id=chip_id,
            device_type=device_type,
            uid=self._uid.hex(),
            bootloader=f"{version[0]:x}{version[1]:x}.{version[2]:x}{version[3]:x}",
            protected=config[0] != UNPROTECTED,
        )

    def speed_up(self, baudrate: int = FAST_BAUDRATE) -> int:
        """Switch to a faster baud rate when the bootloader offers it; return the rate in force."""
        answer = self._transfer(SET_BAUD, struct.pack("<I", baudrate), 0.5)
        if answer[:1] == bytes([UNSUPPORTED]):
            return BAUDRATE
        self._check_status(SET_BAUD, answer)
        self.port.set_baudrate(baudrate)
        return baudrate

    def erase(self, size: int) -> None:
        """Erase as many sectors as ``size`` bytes need, from the start of the flash."""
        sectors = max(MIN_SECTORS, -(-size // SECTOR))
        self._check_status(ERASE, self._transfer(ERASE, struct.pack("<I", sectors), 10.0))

    def program(self, image: bytes, progress: Progress) -> None:
        """Write ``image`` to erased flash from address 0."""
        image = _filled_up(image)
        self._set_key()
        self._stream(PROGRAM, image, progress)
        # An empty chunk makes the bootloader write out its last, partly filled page.
        self._check_status(PROGRAM, self._transfer(PROGRAM, struct.pack("<IB", len(image), 0), 2.0))

    def verify(self, image: bytes, progress: Progress) -> None:
        """Have the bootloader compare its flash with ``image``; raises ``VerifyError`` with the address."""
        self._set_key()
        self._stream(VERIFY, _filled_up(image), progress)

    def reset(self) -> None:
        """End the session; the chip restarts into its application.

        Some bootloaders restart before they have answered (isp55e0: 2.4.0 does); that is ``NoAnswerError``.
        """
        self._check_status(END, self._transfer(END, b"\x01", 1.0))

    def unprotect(self) -> None:
        """Lift read and write protection. **This erases the chip.** The bootloader must be identified again after."""
        options = bytearray(self._read_config(CONFIG_OPTION_BYTES, 12, 0.5))
        options[0:2] = bytes([UNPROTECTED, UNPROTECTED ^ 0xFF])
        options[8:12] = b"\xff" * 4
        self._check_status(
            WRITE_CONFIG,
            self._transfer(WRITE_CONFIG, bytes([CONFIG_OPTION_BYTES, 0]) + bytes(options), 10.0),
        )
        try:
            self.reset()
        except NoAnswerError:
            pass  # it has restarted already, or will be restarted to enter it again

    def _read_config(self, mask: int, size: int, timeout: float) -> bytes:
        """Return what ``mask`` picks: option bytes, bootloader version, unique id. The answer begins with the mask."""
        answer = self._transfer(READ_CONFIG, bytes([mask, 0]), timeout)
        if answer[:1] != bytes([mask]) or len(answer) < 2 + size:
            found = answer.hex() or "nothing"
            raise ProtocolError(f"{self.port.name}: read config: expected {mask:02x}00 and {size} bytes, got {found}")
        return answer[2 : 2 + size]

    def _set_key(self) -> None:
        self._key = session_key(self._uid, self._chip_id)
        answer = self._transfer(KEY, SEED, 0.5)
        expected = sum(self._key) & 0xFF
        if answer[:1] != bytes([expected]):
            raise ProtocolError(
                f"{self.port.name}: set key: the board's key sums to {answer[:1].hex()}, expected {expected:02x}"
            )

    def _stream(self, command: int, image: bytes, progress: Progress) -> None:
        for address in range(0, len(image), CHUNK):
            chunk = image[address : address + CHUNK]
            coded = bytes(byte ^ self._key[index % 8] for index, byte in enumerate(chunk))
            answer = self._transfer(command, struct.pack("<IB", address, 0) + coded, 2.0)
            self._check_status(command, answer, address)
            progress(min(address + CHUNK, len(image)), len(image))

    def _check_status(self, command: int, answer: bytes, address: int = -1) -> None:
        where = f" at 0x{address:04x}" if address >= 0 else ""
        if not answer:
            raise ProtocolError(f"{self.port.name}: {NAMES[command]}{where}: the answer carries no status")
        if answer[0] == 0:
            return
        if command == VERIFY and answer[0] == MISMATCH:
            raise VerifyError(
                f"{self.port.name}: verify{where}: the flash differs from the image, or is read-protected"
            )
        if command in (ERASE, PROGRAM) and self._is_protected():
            raise ProtectedError(
                f"{self.port.name}: {NAMES[command]}{where}: the chip is read-protected (status {answer[0]:02x})"
            )
        raise RefusedError(f"{self.port.name}: {NAMES[command]}{where}: refused with status {answer[0]:02x}")

    def _is_protected(self) -> bool:
        try:
            return self._read_config(CONFIG_ALL, 1, 0.5)[0] != UNPROTECTED
        except ProtocolError:
            return False

    def _transfer(self, command: int, data: bytes, timeout: float) -> bytes:
        self.port.discard_input()
        self.port.write(frame(command, data))
        name = NAMES[command]
        head = self.port.read(6, timeout)
        if not head:
            raise NoAnswerError(f"{self.port.name}: {name}: no answer within {timeout:g} s")
        if len(head) < 6 or head[:3] != bytes([0x55, 0xAA, command]):
            raise ProtocolError(f"{self.port.name}: {name}: not an ISP answer: {head.hex()}")
        length = int.from_bytes(head[4:6], "little")
        rest = self.port.read(length + 1, 1.0)
        if len(rest) < length + 1:
            raise ProtocolError(f"{self.port.name}: {name}: answer cut short after {len(rest)} of {length + 1} bytes")
        if sum(head[2:] + rest[:-1]) & 0xFF != rest[-1]:
            raise ProtocolError(f"{self.port.name}: {name}: wrong checksum in {(head + rest).hex()}")
        return rest[:-1]
