"""The commands of the serial protocol that the loader in ROM and the stub both know ("Serial Protocol")."""

import struct
from abc import ABC, abstractmethod

from fleetflash.lab.boards.esp.circuit import EspCircuit, Job
from fleetflash.lab.boards.esp.core import Core
from fleetflash.lab.boards.esp.loader import Loader
from fleetflash.lab.boards.esp.messages import (
    CHANGE_BAUDRATE,
    FLASH_BEGIN,
    FLASH_DATA,
    FLASH_DEFL_BEGIN,
    FLASH_DEFL_DATA,
    FLASH_DEFL_END,
    FLASH_END,
    GET_SECURITY_INFO,
    READ_REG,
    SPI_ATTACH,
    SPI_FLASH_MD5,
    SPI_SET_PARAMS,
    SYNC,
    WRITE_REG,
    Answer,
    Request,
)


class CommonCommands(Loader, ABC):
    """A loader with these commands; the subclass adds to ``handlers`` what it alone has."""

    def __init__(self, circuit: EspCircuit, core: Core, baud: int) -> None:
        super().__init__(circuit, core, baud)
        self.handlers = {
            SYNC: self._sync,
            READ_REG: self._read_register,
            WRITE_REG: self._write_register,
            SPI_ATTACH: self._attach,
            SPI_SET_PARAMS: self._set_parameters,
            CHANGE_BAUDRATE: self._baudrate,
            FLASH_BEGIN: lambda request: self._begin(request, compressed=False),
            FLASH_DEFL_BEGIN: lambda request: self._begin(request, compressed=True),
            FLASH_DATA: self._data,
            FLASH_DEFL_DATA: self._data,
            FLASH_END: self._end,
            FLASH_DEFL_END: self._end,
            SPI_FLASH_MD5: self._md5,
        }
        if core.chip.has_security_info:
            self.handlers[GET_SECURITY_INFO] = lambda _request: Answer(core.security.info(core.chip))

    # Each loader has its own way

    @abstractmethod
    def _sync(self, request: Request) -> Answer: ...

    @abstractmethod
    def _set_parameters(self, request: Request) -> Answer: ...

    @abstractmethod
    def _begin(self, request: Request, *, compressed: bool) -> Answer | Job: ...

    @abstractmethod
    def _data(self, request: Request) -> Answer | Job: ...

    @abstractmethod
    def _end(self, request: Request) -> Answer: ...

    @abstractmethod
    def _md5(self, request: Request) -> Job: ...

    # The same in both

    def _baudrate(self, request: Request) -> Answer:
        baud = request.words(2)[0]
        if not baud:
            return self.invalid
        self._after = lambda _at: self._change_baud(baud)
        return Answer()

    def _read_register(self, request: Request) -> Answer:
        return Answer(value=self._core.registers.read(request.words(1)[0]))

    def _write_register(self, request: Request) -> Job:
        """Address, value, mask and microseconds to wait before, as often as there is data for."""
        if not request.data or len(request.data) % 16:
            return self.invalid
        for address, value, mask, microseconds in struct.iter_unpack("<4I", request.data):
            if microseconds:
                yield microseconds / 1e6
            self._core.registers.write(address, value, mask)
        return Answer()

    def _attach(self, request: Request) -> Answer:
        request.words(1)
        self._core.registers.spi.attached = True
        return Answer()
