"""One board of a transaction: from the open port to the verified image."""

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import Callable, Iterator, List, Optional, Sequence, cast

from fleetflash.agent import devices
from fleetflash.agent.boot_watch import Keep, listen
from fleetflash.agent.connections import CONNECTIONS, absence, locate
from fleetflash.agent.patience import PORT_SECONDS
from fleetflash.agent.port import Port, PortAbsentError, PortError
from fleetflash.agent.ports import SerialPort
from fleetflash.agent.protocols import klipper
from fleetflash.agent.protocols.errors import ProtectedError, ProtocolError, WrongChipError
from fleetflash.agent.protocols.esp_boot_log import BootLog
from fleetflash.agent.protocols.flash_parts import with_erased
from fleetflash.agent.protocols.programmer import Ask, Programmer, Progress, Target, ToolProgrammer
from fleetflash.agent.protocols.programmers import PROGRAMMERS
from fleetflash.agent.schema import ELF_SHA256, BoardTransaction, Firmware, Image, Region
from fleetflash.agent.tools.process import Tool

OpenPort = Callable[[str, int], SerialPort]

#: A board that has just been reset gets this long to answer with its firmware, in seconds.
BOOT_SECONDS = 15.0


class WrongFirmwareError(Exception):
    """The board runs something else than what was written. The message names both versions."""


class SilentFirmwareError(WrongFirmwareError):
    """The board does not say, or does not get to say, that it runs anything."""


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
    """A board and how its port is opened (replaced in tests).

    ``lend``: has the controller's tool take a port over, where the host has none of its own. ``keep_boot``: keeps what
    was heard of an ESP board.
    """

    def __init__(
        self,
        board: BoardTransaction,
        open_port: OpenPort,
        lend: Optional[Callable[[Port], Tool]] = None,
        keep_boot: Optional[Keep] = None,
    ):
        self.board = board
        self.open_port = open_port
        self.lend = lend
        self.keep_boot = keep_boot
        self._wiring = board.entry.wiring if board.entry.method == "lines" else ""

    @contextmanager
    def in_bootloader(self, ask: Ask, uid: str) -> Iterator["Session"]:
        """Enter the bootloader and check that this is the chip, and with ``uid`` the board, that is meant."""
        with self._programmer() as programmer:
            programmer.enter(self.board.entry, ask)
            # What has led in leads out of a bootloader that has stopped answering.
            self._wiring = getattr(programmer, "wiring", "")
            session = Session(self.board, programmer, uid)
            try:
                session.check_identity()
                session.check_protection()
            except (ProtocolError, PortError):
                _leave(programmer)
                raise
            yield session

    def leave_bootloader(self) -> None:
        """Have a board that may have been left in its bootloader start its application."""
        with self._programmer() as programmer:
            programmer.leave()

    def identify(self, baud: int) -> Firmware:
        """Ask the application on the board what it is; it may still be starting."""
        port = self._open_application(baud)
        try:
            time.sleep(PROGRAMMERS[self.board.programmer].capabilities.quiet)
            found = klipper.identify(port, timeout=0.5, tries=round(BOOT_SECONDS / 0.5))
        except ProtocolError as error:
            return Firmware(source="none", error=str(error))
        finally:
            port.close()
        return Firmware("identify", found.version, found.build_versions, found.constants)

    @contextmanager
    def _programmer(self) -> Iterator[Programmer]:
        board = self.board
        place = (board.flash_base, board.flash_offset, board.flash_size)
        target = Target(*place, board.baud, board.options, self._wiring)
        programmer = PROGRAMMERS[board.programmer](self._open(), target, self._open)
        if self.lend is not None:
            cast(ToolProgrammer, programmer).start_tool = self.lend
        try:
            yield programmer
        finally:
            programmer.port.close()

    def _open(self) -> Port:
        """Open the board's port by its name: after a boot, another board may have the device that this one had."""
        device = self._device()
        if self._connection in CONNECTIONS:
            return CONNECTIONS[self._connection].open_bootloader(self.board.port, self.board.baud)
        return self.open_port(device, self.board.baud)

    def _open_application(self, baud: int) -> Port:
        """Open what the running firmware speaks through."""
        device = self._device()
        if self._connection in CONNECTIONS:
            return CONNECTIONS[self._connection].open_application(self.board.port, baud, BOOT_SECONDS)
        return self.open_port(device, baud)

    @property
    def _connection(self) -> str:
        return PROGRAMMERS[self.board.programmer].capabilities.connection

    def is_there(self) -> bool:
        """Whether the board's port is there just now."""
        return bool(self._devices())

    def _devices(self) -> List[str]:
        moves = PROGRAMMERS[self.board.programmer].capabilities.moves
        return locate(self._connection, self.board.port, devices.list_ports({}), moves, self.board.by_path)

    def _device(self) -> str:
        """Return the one device that the board's port means, or, for a board that moves, that has the same place."""
        deadline = time.monotonic() + PORT_SECONDS
        while True:
            found = self._devices()
            if len(found) == 1:
                return found[0]
            if time.monotonic() > deadline:
                if not found:
                    gone = absence(self._connection, self.board.port)
                    raise PortAbsentError(f"{self.board.name}: port {gone}, after {PORT_SECONDS:g} s")
                raise PortError(f"{self.board.name}: port {self.board.port} means {' and '.join(found)}")
            time.sleep(0.2)

    def check_runs(self, image: Image, attempt: int = 1, of: int = 1) -> None:
        """Raise ``WrongFirmwareError`` unless the board itself says that it runs ``image``, if it can say anything.

        ``SilentFirmwareError`` where it says nothing, or its boot is rejected.
        """
        if image.esp:
            self._check_boot(image, attempt, of)
        if not image.klipper:
            return
        # The old firmware may talk at another rate than the new one, which is the inventory's.
        baud = image.constants.get("SERIAL_BAUD")
        found = self.identify(baud if isinstance(baud, int) else self.board.baud)
        difference = differences(found, image)
        if difference:
            kind = WrongFirmwareError if found.version else SilentFirmwareError
            raise kind(f"{self.board.name} on {self.board.port}: {difference}")

    def _check_boot(self, image: Image, attempt: int, of: int) -> None:
        """Reset, listen and judge. What the contract says of a way back is kept, and decides nothing."""
        where = f"{self.board.name} on {self.board.port}"
        port = self._open()
        try:
            boot = listen(port, f"{where}, attempt {attempt} of {of}", self.board.contract, self.board.equipment)
        finally:
            port.close()
        other = other_firmware(boot.found, image)
        judged = boot.verdict if image == self.board.wanted else None
        reason = other or (judged.summary() if judged else trouble(boot.found, image))
        if self.keep_boot is not None:
            self.keep_boot(boot, attempt, of, reason)
        if other:
            raise WrongFirmwareError(f"{where}: {other}")
        if reason:
            raise SilentFirmwareError(f"{where}: " + (f"its boot is rejected by {reason}" if judged else reason))


def other_firmware(found: BootLog, image: Image) -> str:
    """Say how what a boot log names differs from an image; empty when it doesn't."""
    if found.version and found.version != image.version:
        return f"boots {found.version}, expected {image.version}"
    digest = str(image.constants.get(ELF_SHA256, ""))
    if found.elf_sha256 and digest and not digest.startswith(found.elf_sha256):
        return f"boots another build of {image.version} (ELF {found.elf_sha256}, expected {digest[:16]})"
    return ""


def trouble(found: BootLog, image: Image) -> str:
    """Say why a boot that nobody has a contract for is none; empty when it is one."""
    return f"does not run {image.version}: {found.trouble}" if found.trouble else ""


def _leave(programmer: Programmer) -> None:
    """Have a board that is refused start its application again; what keeps it from that isn't what is told."""
    try:
        programmer.leave()
    except (ProtocolError, PortError):
        pass


class Session:
    """A board in its bootloader, identity checked."""

    def __init__(self, board: BoardTransaction, programmer: Programmer, expected_uid: str):
        self.board = board
        self.programmer = programmer
        self.expected_uid = expected_uid
        self.uid = ""

    @property
    def port(self) -> SerialPort:
        """The board's port as it is now, opened by ``OpenPort``."""
        return cast(SerialPort, self.programmer.port)

    def check_identity(self, erased: bool = False) -> None:
        """Raise ``WrongChipError`` when chip or unique id differ from the transaction's.

        ``erased``: what the message says of the flash. A protected STM32 tells its unique id only afterwards.
        """
        found = self.programmer.probe()
        fate = "its protection was lifted, which has erased it" if erased else "nothing was erased"
        if not found.uid:
            found = replace(found, uid=devices.native_serial_number(self.port.name))
        where = f"{self.board.name} on {self.board.port}"
        if found.chip_id not in self.board.chip_ids:
            expected = " or ".join(self.board.chip_ids)
            raise WrongChipError(
                f"{where}: found chip {found.chip_id}, expected {expected} ({self.board.chip}); {fate}. "
                "Correct the board's chip or port in the inventory"
            )
        # Whether a protected chip may be touched at all is said next.
        if self.expected_uid and not found.uid and not found.protected:
            raise WrongChipError(
                f"{where}: found a board that tells no unique id, expected {self.expected_uid}; {fate}. Check what is "
                "on this port; a board that can tell none needs a name of its own in the inventory, without uid"
            )
        if self.expected_uid and found.uid and found.uid != self.expected_uid:
            raise WrongChipError(
                f"{where}: found the board with unique id {found.uid}, expected {self.expected_uid}; {fate}. "
                f"If the board was replaced, set uid = {found.uid!r} for it in the inventory"
            )
        self.uid = found.uid

    def check_protection(self) -> None:
        """Raise ``ProtectedError`` when the chip is read-protected and the inventory does not allow to lift that."""
        if self.programmer.probe().protected and not self.board.unprotect:
            raise ProtectedError(
                f"{self.board.name} on {self.board.port}: the chip is read-protected; lifting that erases it, so it is "
                "done only when the inventory says so: set unprotect = True for this board"
            )

    def unprotect_if_asked(self, ask: Ask) -> None:
        """Lift a read protection when the inventory allows it. **This erases the chip.**"""
        if self.board.unprotect and self.programmer.probe().protected:
            self.programmer.unprotect(self.board.entry, ask)
            self.check_identity(erased=True)

    def read(self, progress: Callable[[str], Progress]) -> bytes:
        """Return the application's flash, for a backup; raises ``VerifyError`` when a second reading differs.

        AN3155 (section 3.4) and STK500 version 1 have no checksum for what is read.
        """
        data = self.programmer.read(progress("back up"))
        self.programmer.verify(data, progress("check backup"))
        return data

    def write(self, image: bytes, progress: Callable[[str], Progress], erase: Sequence[Region] = ()) -> None:
        """Erase, program and verify. ``progress`` gives a callback for each phase.

        ``erase``: of a board whose image has parts, what must read as erased afterwards.
        """
        if erase:
            image = with_erased(image, [(region.offset, region.size) for region in erase])
        # An archive of parts is larger than what it holds; its tool knows the flash's own size.
        if not self.programmer.capabilities.parts and len(image) > self.board.flash_size:
            raise ProtocolError(
                f"{self.board.name}: the image has {len(image)} bytes, the flash {self.board.flash_size}"
            )
        self.programmer.write(image, progress("program"))
        self.programmer.verify(image, progress("verify"))
