"""The loader that esptool starts in RAM: answers first and writes then, erases just ahead, reads fast.

Sources: "Serial Protocol" (OHAI, 2 status bytes, the commands of the software loader) and, for what the page leaves
out, esp-flasher-stub (``src/commands.h``: error codes; ``src/command_handler.c``: a failed write is told by the next
answer, SYNC is answered eight times with value 0, SPI_ATTACH needs one word).
"""

import zlib

from fleetflash.lab.boards.esp.chips import SOFTWARE
from fleetflash.lab.boards.esp.circuit import EspCircuit, Job, Steps
from fleetflash.lab.boards.esp.common_commands import CommonCommands
from fleetflash.lab.boards.esp.core import Core
from fleetflash.lab.boards.esp.download import Download
from fleetflash.lab.boards.esp.loader import COPIES, Change
from fleetflash.lab.boards.esp.messages import (
    ERASE_FLASH,
    ERASE_REGION,
    FLASH_DEFL_DATA,
    READ_FLASH,
    RUN_USER_CODE,
    SYNC,
    Answer,
    Request,
)
from fleetflash.lab.boards.esp.readout import LONGEST_PACKET, Readout
from fleetflash.lab.boards.esp.spi_flash import BIGGEST, READ_TIME, SECTOR
from fleetflash.lab.boards.faults import Fault

BAD_LENGTH, BAD_CHECKSUM, UNKNOWN, SPI_FAILED = 0xC0, 0xC1, 0xC3, 0xC4
NOT_IN_FLASH_MODE, INFLATE_ERROR, TOO_MUCH_DATA = 0xC6, 0xC7, 0xC9


class StubLoader(CommonCommands):
    """One run, from its start in RAM to a reset."""

    status_length = 2
    unknown = Answer(error=UNKNOWN)
    invalid = Answer(error=BAD_LENGTH)

    def __init__(self, circuit: EspCircuit, core: Core, baud: int) -> None:
        super().__init__(circuit, core, baud)
        self._late_error = 0
        self._readout: Readout | None = None
        self._spoil_read = False
        core.registers.spi.attached = True
        self.handlers |= {
            ERASE_FLASH: lambda _request: self._erase_region(0, core.flash.size),
            ERASE_REGION: lambda request: self._erase_region(*request.words(2)),
            READ_FLASH: self._read,
            RUN_USER_CODE: self._run_user_code,
        }

    def greet(self, at: float) -> None:
        self._send(b"OHAI", at)

    def _packet(self, packet: bytes, at: float) -> None:
        if self._readout is None:
            super()._packet(packet, at)
            return
        self._circuit.send(self._readout.acknowledged(packet), self._baud, at)
        if self._readout.done:
            self._readout = None

    def _execute(self, request: Request, at: float, change: Change | None = None) -> None:
        if self._late_error:
            error, self._late_error = Answer(error=self._late_error), 0
            self._send(error.packet(request.command, self.status_length), at)
            return
        super()._execute(request, at, change)

    def _copies(self, request: Request, answer: Answer) -> int:
        if request.command == RUN_USER_CODE:
            return 0
        return COPIES if request.command == SYNC and not answer.error else 1

    def _misbehave(self, fault: Fault, request: Request, at: float) -> None:
        if fault.kind == "corrupt" and request.command == READ_FLASH:
            # The data instead of the answer before it: what the MD5 at the end is for.
            self._spoil_read = True
            self._execute(request, at)
        else:
            super()._misbehave(fault, request, at)

    # Commands

    def _sync(self, request: Request) -> Answer:
        return Answer() if len(request.data) == 36 else self.invalid

    def _set_parameters(self, request: Request) -> Answer:
        return Answer() if len(request.data) == 24 else self.invalid

    def _begin(self, request: Request, *, compressed: bool) -> Answer:
        size, _, _, offset = request.words(4)
        self._download = Download(self._core.flash, offset, size, compressed=compressed, erase_ahead=True)
        if size:
            self._circuit.counters.erases += 1
        return Answer()

    def _data(self, request: Request) -> Answer:
        download = self._download
        if download is None:
            return Answer(error=NOT_IN_FLASH_MODE)
        if not request.payload_valid:
            return Answer(error=BAD_CHECKSUM)
        if request.command == FLASH_DEFL_DATA and not download.remaining:
            return Answer(error=TOO_MUCH_DATA)
        self._circuit.counters.programs += 1
        self._background = self._write(download, request.payload)
        return Answer()

    def _write(self, download: Download, payload: bytes) -> Steps:
        try:
            data = download.unpack(payload)
        except zlib.error as error:
            self._circuit.log(f"deflate: {error}")
            self._late_error = INFLATE_ERROR
            return
        # The last block of a plain download is padded.
        yield from download.write(data[: download.remaining])

    def _end(self, request: Request) -> Answer:
        """0: reset, as the first stub does (the second stays in any case). 1: stay."""
        stay = request.words(1)[0]
        if self._download is None:
            return Answer(error=NOT_IN_FLASH_MODE)
        if self._download.remaining:
            return self.invalid
        self._download = None
        if not stay:
            self._after = lambda at: self._circuit.restart(SOFTWARE, at)
        return Answer()

    def _md5(self, request: Request) -> Job:
        offset, size = request.words(2)
        if offset + size > BIGGEST:
            return Answer(error=SPI_FAILED)
        self._circuit.counters.verifies += 1
        yield size * READ_TIME
        return Answer(self._core.flash.md5(offset, size))

    def _erase_region(self, offset: int, size: int) -> Job:
        if offset % SECTOR or size % SECTOR:
            return self.invalid
        if offset + size > self._core.flash.size:
            return Answer(error=SPI_FAILED)
        self._circuit.counters.erases += 1
        self._circuit.log(f"erase 0x{offset:06x}+0x{size:x}")
        yield from self._erase(offset, offset + size)
        return Answer()

    def _read(self, request: Request) -> Answer:
        offset, length, packet, _ = request.words(4)
        if not 0 < packet <= LONGEST_PACKET:
            return self.invalid
        if offset + length > BIGGEST:
            return Answer(error=SPI_FAILED)
        readout = Readout(self._core.flash, offset, length, packet, corrupt=self._spoil_read)
        self._spoil_read = False

        def start(at: float) -> None:
            self._readout = readout
            self._circuit.send(readout.first(), self._baud, at)
            if readout.done:
                self._readout = None

        self._after = start
        return Answer()

    def _run_user_code(self, _request: Request) -> Answer:
        """No answer; the application starts."""
        self._after = self._circuit.run_user_code
        return Answer()
