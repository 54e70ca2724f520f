"""The loader in ROM: slower than the stub, erases before it writes, checks what it wrote.

Sources: "Serial Protocol" (commands, 4 status bytes, error codes, MD5 as text) and published traces of
``esptool --trace``: SYNC is answered eight times with the first word of its data as value, other answers repeat the
value that was read last; GET_SECURITY_INFO of chips that have it comes with 20 bytes. Not documented, and chosen here:
which number the eight answers to an unknown command carry, and that flash commands fail before SPI_ATTACH.
"""

import zlib
from collections.abc import Callable
from dataclasses import replace

from fleetflash.lab.boards.esp.chips import SOFTWARE
from fleetflash.lab.boards.esp.circuit import EspCircuit, Job
from fleetflash.lab.boards.esp.common_commands import CommonCommands
from fleetflash.lab.boards.esp.core import Core
from fleetflash.lab.boards.esp.download import Download
from fleetflash.lab.boards.esp.loader import COPIES, Change
from fleetflash.lab.boards.esp.messages import (
    CHANGE_BAUDRATE,
    FLASH_BEGIN,
    FLASH_DATA,
    FLASH_DEFL_BEGIN,
    FLASH_DEFL_DATA,
    FLASH_DEFL_END,
    FLASH_END,
    GET_SECURITY_INFO,
    MEM_BEGIN,
    MEM_DATA,
    MEM_END,
    READ_FLASH_SLOW,
    SPI_ATTACH,
    SPI_SET_PARAMS,
    SYNC,
    Answer,
    Request,
    checksum,
)
from fleetflash.lab.boards.esp.ram import RamError
from fleetflash.lab.boards.esp.spi_flash import BIGGEST, READ_TIME
from fleetflash.lab.boards.esp.stub_loader import StubLoader

START_BAUD = 115200
SYNC_DATA = b"\x07\x07\x12\x20" + b"\x55" * 32
SLOW_READ = 64  # bytes in every answer to READ_FLASH_SLOW
DEFAULT_SIZE = 4 << 20  # of the flash, until SPI_SET_PARAMS says more

INVALID, FAILED, BAD_CHECKSUM, WRITE_ERROR, LENGTH_ERROR, DEFLATE_ERROR = 0x05, 0x06, 0x07, 0x08, 0x0A, 0x0B

# What is left in Secure Download Mode (ESP-IDF guide, "Security", section "UART Download Mode").
SECURE_DOWNLOAD = (
    SYNC,
    FLASH_BEGIN,
    FLASH_DATA,
    FLASH_END,
    FLASH_DEFL_BEGIN,
    FLASH_DEFL_DATA,
    FLASH_DEFL_END,
    SPI_SET_PARAMS,
    SPI_ATTACH,
    CHANGE_BAUDRATE,
    GET_SECURITY_INFO,
)
UNKNOWN_COMMAND = 0xFF

# The ROM of an S3 with secure boot does not jump to RAM at MEM_END. esptool (``loader.py``, ``run_stub``) lets the
# ROM's own pointer to its flash read function do it.
READ_POINTER = 0x3FCE_F688


class RomLoader(CommonCommands):
    """One run, from reset to reset or to the start of a stub."""

    status_length = 4
    unknown = Answer(error=INVALID)
    invalid = Answer(error=INVALID)

    def __init__(self, circuit: EspCircuit, core: Core, hand_over: Callable[[StubLoader], None]) -> None:
        super().__init__(circuit, core, START_BAUD)
        self._hand_over = hand_over
        self._synchronized = False
        self._value = 0
        self._flash_size = DEFAULT_SIZE
        self.handlers |= {
            MEM_BEGIN: self._mem_begin,
            MEM_DATA: self._mem_data,
            MEM_END: self._mem_end,
            READ_FLASH_SLOW: self._read_slow,
        }
        if core.security.secure_download:
            self.handlers = {command: self.handlers[command] for command in SECURE_DOWNLOAD}

    def receive(self, data: bytes, baud: int, at: float) -> None:
        if not self._synchronized and baud > 0 and baud != self._baud:
            # The 0x55 bytes of SYNC let the UART measure the rate.
            self._change_baud(baud)
        super().receive(data, baud, at)

    def _complete(self, answer: Answer) -> Answer:
        self._value = self._value if answer.value is None else answer.value
        return replace(answer, value=self._value)

    def _copies(self, request: Request, _answer: Answer) -> int:
        if request.command == READ_FLASH_SLOW and self._after:
            return 0
        return COPIES if request.command == SYNC else 1

    def _execute(self, request: Request, at: float, change: Change | None = None) -> None:
        if request.command in self.handlers:
            super()._execute(request, at, change)
            return
        for _ in range(COPIES):
            at = self._send(self._complete(self.unknown).packet(UNKNOWN_COMMAND, self.status_length), at)

    # Commands

    def _sync(self, request: Request) -> Answer:
        if request.data != SYNC_DATA:
            return self.invalid
        self._synchronized = True
        return Answer(value=request.words(1)[0])

    def _mem_begin(self, request: Request) -> Answer:
        size, _, _, address = request.words(4)
        self._core.ram.begin(size, address)
        return Answer()

    def _mem_data(self, request: Request) -> Answer:
        if not request.payload_valid:
            return Answer(error=BAD_CHECKSUM)
        try:
            self._core.ram.data(request.payload)
        except RamError as error:
            self._circuit.log(f"MEM_DATA: {error}")
            return self.invalid
        return Answer()

    def _mem_end(self, request: Request) -> Answer:
        stay, entry = request.words(2)
        if not stay:
            self._after = lambda at: self._jump(entry, at, refused=self._refuses_ram)
        return Answer()

    @property
    def _refuses_ram(self) -> bool:
        return self._core.chip.kind == "esp32s3" and self._core.security.secure_boot

    def _jump(self, entry: int, at: float, *, refused: bool = False) -> None:
        self._busy = True
        if not refused and self._core.ram.starts_stub(entry):
            self._circuit.log(f"stub starts at 0x{entry:08x}")
            stub = StubLoader(self._circuit, self._core, self._baud)
            self._hand_over(stub)
            stub.greet(at)
        else:
            self._circuit.log(f"jump to 0x{entry:08x}, where no stub is: the chip hangs")

    def _set_parameters(self, request: Request) -> Answer:
        self._flash_size = min(request.words(6)[1], BIGGEST)
        return Answer()

    def _reachable(self, offset: int, size: int) -> bool:
        return self._core.registers.spi.attached and offset + size <= self._flash_size

    def _begin(self, request: Request, *, compressed: bool) -> Job:
        size, _, _, offset = request.words(4)
        if size and not self._reachable(offset, size):
            return Answer(error=FAILED)
        self._download = Download(self._core.flash, offset, size, compressed=compressed, erase_ahead=False)
        if size:
            self._circuit.counters.erases += 1
            self._circuit.log(f"erase 0x{offset:06x}+0x{size:x}")
            yield from self._download.erase()
        return Answer()

    def _data(self, request: Request) -> Job:
        if self._download is None:
            return self.invalid
        if not request.payload_valid:
            return Answer(error=BAD_CHECKSUM)
        try:
            data = self._download.unpack(request.payload)
        except zlib.error as error:
            self._circuit.log(f"deflate: {error}")
            return Answer(error=DEFLATE_ERROR)
        start = self._download.position
        if not self._reachable(start, len(data)):
            return Answer(error=FAILED)
        self._circuit.counters.programs += 1
        yield from self._download.write(data)
        written = self._core.flash.read(start, len(data))
        return Answer() if checksum(written) == checksum(data) else Answer(error=WRITE_ERROR)

    def _end(self, request: Request) -> Answer:
        """0: reset, which leads back here while the pins ask for it. 1: leave for what is in flash."""
        stay = request.words(1)[0]
        self._download = None
        self._after = self._circuit.run_user_code if stay else lambda at: self._circuit.restart(SOFTWARE, at)
        return Answer()

    def _md5(self, request: Request) -> Job:
        offset, size = request.words(2)
        if not self._reachable(offset, size):
            return Answer(error=FAILED)
        self._circuit.counters.verifies += 1
        yield size * READ_TIME
        return Answer(self._core.flash.md5(offset, size).hex().encode())

    def _read_slow(self, request: Request) -> Answer:
        offset, length = request.words(2)
        pointer = self._core.registers.read(READ_POINTER)
        if self._refuses_ram and self._core.ram.starts_stub(pointer):
            self._after = lambda at: self._jump(pointer, at)
            return Answer()
        if length > SLOW_READ:
            return Answer(error=LENGTH_ERROR)
        if not self._reachable(offset, length):
            return Answer(error=FAILED)
        return Answer(self._core.flash.read(offset, length).ljust(SLOW_READ, b"\0"))
