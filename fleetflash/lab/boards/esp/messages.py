"""Requests and answers of the serial protocol ("Serial Protocol", sections "Command Packet" to "Checksum")."""

import struct
from dataclasses import dataclass

from fleetflash.lab.esp_format import xor

HEADER = struct.Struct("<BBHI")
REQUEST, RESPONSE = 0, 1
DATA_HEADER = 16  # length, sequence number and two zeros before what is to be written
LONGEST = HEADER.size + DATA_HEADER + 0x4000  # esptool's stub takes blocks of 16 KiB

FLASH_BEGIN, FLASH_DATA, FLASH_END = 0x02, 0x03, 0x04
MEM_BEGIN, MEM_END, MEM_DATA = 0x05, 0x06, 0x07
SYNC, WRITE_REG, READ_REG = 0x08, 0x09, 0x0A
SPI_SET_PARAMS, SPI_ATTACH, READ_FLASH_SLOW, CHANGE_BAUDRATE = 0x0B, 0x0D, 0x0E, 0x0F
FLASH_DEFL_BEGIN, FLASH_DEFL_DATA, FLASH_DEFL_END = 0x10, 0x11, 0x12
SPI_FLASH_MD5, GET_SECURITY_INFO = 0x13, 0x14
ERASE_FLASH, ERASE_REGION, READ_FLASH, RUN_USER_CODE = 0xD0, 0xD1, 0xD2, 0xD3

# What faults call them. FLASH_BEGIN announces the region that is going to be erased.
NAMES = {
    FLASH_BEGIN: "erase",
    FLASH_DATA: "program",
    FLASH_END: "end",
    MEM_BEGIN: "stub",
    MEM_END: "stub",
    MEM_DATA: "stub",
    SYNC: "identify",
    WRITE_REG: "config",
    READ_REG: "config",
    SPI_SET_PARAMS: "config",
    SPI_ATTACH: "config",
    READ_FLASH_SLOW: "read",
    CHANGE_BAUDRATE: "baud",
    FLASH_DEFL_BEGIN: "erase",
    FLASH_DEFL_DATA: "program",
    FLASH_DEFL_END: "end",
    SPI_FLASH_MD5: "verify",
    GET_SECURITY_INFO: "identify",
    ERASE_FLASH: "erase",
    ERASE_REGION: "erase",
    READ_FLASH: "read",
    RUN_USER_CODE: "end",
}


@dataclass(frozen=True)
class Request:
    command: int
    checksum: int
    data: bytes

    def words(self, count: int) -> tuple[int, ...]:
        """The first ``count`` 32-bit words of the data; raises ``struct.error`` when it is shorter."""
        return struct.unpack_from(f"<{count}I", self.data)

    @property
    def payload(self) -> bytes:
        """What is to be written by one of the ``_DATA`` commands."""
        return self.data[DATA_HEADER:]

    @property
    def payload_valid(self) -> bool:
        """Whether length and checksum of a ``_DATA`` command agree with its payload."""
        return (
            len(self.data) >= DATA_HEADER
            and self.words(1)[0] == len(self.payload)
            and checksum(self.payload) == self.checksum
        )


@dataclass(frozen=True)
class Answer:
    """``data`` comes before the status; an ``error`` of 0 is success. Most answers have no ``value`` of their own."""

    data: bytes = b""
    value: int | None = None
    error: int = 0

    def packet(self, command: int, status_length: int) -> bytes:
        """The response packet: 2 status bytes from a stub, 4 from the ROM ("Status bytes"). A failure has no data."""
        body = b"" if self.error else self.data
        status = bytes([int(self.error != 0), self.error]).ljust(status_length, b"\0")
        return HEADER.pack(RESPONSE, command, len(body + status), self.value or 0) + body + status


def parse(packet: bytes) -> Request | None:
    """The request in a SLIP packet, or None when it is none."""
    if len(packet) < HEADER.size:
        return None
    direction, command, length, check = HEADER.unpack_from(packet)
    if direction != REQUEST or len(packet) != HEADER.size + length:
        return None
    return Request(command, check, packet[HEADER.size :])


def checksum(data: bytes) -> int:
    """0xEF and every byte, XORed ("Checksum")."""
    return 0xEF ^ xor(data)
