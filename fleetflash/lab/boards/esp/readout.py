"""READ_FLASH of the stub: raw packets, acknowledged one by one, and an MD5 ("Serial Protocol", "Reading Flash").

The page says that the host chooses how many packets may be under way. Both published stubs keep to one whatever is
asked for (esptool's ``flasher_stub/stub_commands.c`` counts bytes against it, ``src/command_handler.c`` of
esp-flasher-stub sets it to one), and so does this.
"""

import hashlib
import struct

from fleetflash.lab.boards.esp.slip import frame
from fleetflash.lab.boards.esp.spi_flash import SpiFlash

LONGEST_PACKET = 0x1000


class Readout:
    """One read: ``first`` and then ``acknowledged`` give what to send next, until ``done``."""

    def __init__(self, flash: SpiFlash, offset: int, length: int, packet: int, *, corrupt: bool) -> None:
        self._flash = flash
        self._offset = offset
        self._length = length
        self._packet = packet
        self._sent = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._corrupt = corrupt
        self.done = False

    def first(self) -> bytes:
        return self._digest() if self._length == 0 else self._next()

    def acknowledged(self, packet: bytes) -> bytes:
        """What follows an acknowledgement: 4 bytes, the count of bytes received so far. Others end the read.

        Any count lets the next packet go; only that of all bytes ends the read.
        """
        if len(packet) != 4:
            self.done = True
            return b""
        (received,) = struct.unpack("<I", packet)
        if received >= self._length:
            return self._digest()
        return self._next() if self._sent < self._length else b""

    def _next(self) -> bytes:
        data = self._flash.read(self._offset + self._sent, min(self._packet, self._length - self._sent))
        self._md5.update(data)
        self._sent += len(data)
        if self._corrupt:
            self._corrupt = False
            data = bytes([data[0] ^ 0x10]) + data[1:]
        return frame(data)

    def _digest(self) -> bytes:
        self.done = True
        return frame(self._md5.digest())
