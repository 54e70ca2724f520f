"""One board of a transaction: from the open port to the verified image."""

from contextlib import contextmanager
from typing import Callable, Iterator

from fleetflash.agent.ports import SerialPort
from fleetflash.agent.protocols import klipper
from fleetflash.agent.protocols.errors import ProtocolError, WrongChipError
from fleetflash.agent.protocols.programmers import PROGRAMMERS, Ask, Programmer, Progress
from fleetflash.agent.schema import BoardTransaction, Firmware, Image

OpenPort = Callable[[str, int], SerialPort]

#: A board that has just been reset gets this long to answer with its firmware, in seconds.
BOOT_SECONDS = 15.0


class WrongFirmwareError(Exception):
    """The board runs something else than what was written. The message names both versions."""


def differences(found: Firmware, image: Image) -> str:
    """Say how what a board runs differs from what an image holds; empty when it doesn't."""
    if not found.version:
        return f"does not say what it runs ({found.error})"
    if found.version != image.version:
        return f"runs {found.version}, expected {image.version}"
    if image.build_versions and found.build_versions and found.build_versions != image.build_versions:
        return f"runs {found.version} built by {found.build_versions!r}, expected {image.build_versions!r}"
    for name, value in image.constants.items():
        if name in found.constants and found.constants[name] != value:
            return f"runs {found.version} with {name} = {found.constants[name]!r}, expected {value!r}"
    return ""


class BoardOnPort:
    """A board and how its port is opened (replaced in tests)."""

    def __init__(self, board: BoardTransaction, open_port: OpenPort):
        self.board = board
        self.open_port = open_port

    @contextmanager
    def in_bootloader(self, ask: Ask) -> Iterator["Session"]:
        """Enter the bootloader and check that this is the chip and the board that the transaction means."""
        port = self.open_port(self.board.device, self.board.baud)
        try:
            programmer = PROGRAMMERS[self.board.programmer](port)
            programmer.enter(self.board.entry, ask)
            session = Session(self.board, port, programmer)
            try:
                session.check_identity()
            except WrongChipError:
                programmer.reset()
                raise
            yield session
        finally:
            port.close()

    def leave_bootloader(self) -> None:
        """Have a board that may have been left in its bootloader start its application."""
        port = self.open_port(self.board.device, self.board.baud)
        try:
            PROGRAMMERS[self.board.programmer](port).leave()
        finally:
            port.close()

    def identify(self) -> Firmware:
        """Ask the application on the board what it is; it may still be starting."""
        port = self.open_port(self.board.device, self.board.baud)
        try:
            tries = max(1, round(BOOT_SECONDS / 0.5))
            found = klipper.identify(port, timeout=0.5, tries=tries)
        except ProtocolError as error:
            return Firmware(source="none", error=str(error))
        finally:
            port.close()
        return Firmware("identify", found.version, found.build_versions, found.constants)

    def check_runs(self, image: Image) -> None:
        """Raise ``WrongFirmwareError`` unless the board itself says that it runs ``image``, if it can say anything."""
        if not image.klipper:
            return
        difference = differences(self.identify(), image)
        if difference:
            raise WrongFirmwareError(f"{self.board.name} on {self.board.device}: {difference}")


class Session:
    """A board in its bootloader, identity checked."""

    def __init__(self, board: BoardTransaction, port: SerialPort, programmer: Programmer):
        self.board = board
        self.port = port
        self.programmer = programmer
        self.uid = ""

    def check_identity(self) -> None:
        """Raise ``WrongChipError`` when chip or unique id differ from the transaction's."""
        found = self.programmer.probe()
        where = f"{self.board.name} on {self.board.device}"
        if found.chip_id not in self.board.chip_ids:
            expected = " or ".join(self.board.chip_ids)
            raise WrongChipError(
                f"{where}: found chip {found.chip_id}, expected {expected} ({self.board.chip}); nothing was "
                "erased. Correct the board's chip or port in the inventory"
            )
        if self.board.uid and found.uid and found.uid != self.board.uid:
            raise WrongChipError(
                f"{where}: found the board with unique id {found.uid}, expected {self.board.uid}; nothing was erased. "
                f"If the board was replaced, set uid = {found.uid!r} for it in the inventory"
            )
        self.uid = found.uid

    def unprotect_if_asked(self, ask: Ask) -> None:
        """Lift a read protection when the inventory allows it; without that, ``write`` refuses the chip untouched."""
        if self.board.unprotect and self.programmer.probe().protected:
            self.programmer.unprotect(self.board.entry, ask)
            self.check_identity()

    def write(self, image: bytes, progress: Callable[[str], Progress]) -> None:
        """Erase, program and verify. ``progress`` gives a callback for each phase."""
        if len(image) > self.board.flash_size:
            raise ProtocolError(
                f"{self.board.name}: the image has {len(image)} bytes, the flash {self.board.flash_size}"
            )
        self.programmer.write(image, progress("program"))
        self.programmer.verify(image, progress("verify"))
