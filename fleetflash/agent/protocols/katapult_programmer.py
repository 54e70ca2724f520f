"""STM32, RP2040 and others behind Katapult, over a UART or as a USB device of their own.

The running firmware is asked to make way: Klipper's request string works on both; on USB, setting 1200 bit/s while DTR
is released does it too (Klipper ``docs/Bootloader_Entry.md``). A board on USB then leaves the bus and comes back with
other USB ids, under another device node and another by-id name, so its port is opened again by the name that stays.
"""

import time
from typing import Callable, Optional

from fleetflash.agent.port import Port, PortError
from fleetflash.agent.protocols import entry as ways
from fleetflash.agent.protocols import katapult
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, VerifyError, WrongChipError
from fleetflash.agent.protocols.flash_content import difference, filled, trimmed
from fleetflash.agent.protocols.programmer import Ask, Capabilities, Found, Pace, Progress, Reopen, Target
from fleetflash.agent.protocols.stm32_chips import family_of
from fleetflash.agent.schema import Entry

#: A firmware that was asked gets this long to restart in its bootloader, in seconds; one that was still starting is
#: asked again.
REQUEST_SECONDS = 1.5
REQUESTS = 3
TOUCH_SECONDS = 3.0
#: A board on USB gets this long to be on the bus again, in seconds.
RETURN_SECONDS = 15.0
#: Katapult starts the application 0.1 s after *complete*; a board on USB has left the bus soon after, in seconds.
LEAVE_SECONDS = 1.5
REOPEN_PAUSE = 0.1
#: What a flash size register holds that was never written.
ERASED_REGISTER = 0xFFFF
TOUCH_BAUDRATE = 1200


class KatapultProgrammer:
    """One board with Katapult in front of its application, which begins where ``target`` says."""

    DEFAULT_GESTURE = "press RESET twice within half a second"

    capabilities = Capabilities(
        read_back=True,
        entries=("request", "button"),
        moves=True,
        uid_by_usb=True,
        pace=Pace(baudrate=250_000, chunk=64, overhead=28, fixed=4.0, busy=0.002),
    )

    def __init__(self, port: Port, target: Target, reopen: Reopen):
        self.port = port
        self.target = target
        self.reopen = reopen
        self.found: Optional[katapult.Bootloader] = None

    def enter(self, entry: Entry, ask: Ask) -> None:
        if self._answers(tries=2):
            return
        if entry.method == "request":
            self._request()
        elif entry.method == "button":
            ways.enter_by_hand(self.port, entry, ask, self._answers_after_return, self.DEFAULT_GESTURE)
        else:
            raise NoAnswerError(f"{self.port.name}: no Katapult answers, and the board has no way to enter it")

    def probe(self) -> Found:
        found = self._bootloader()
        if found.application_start != self.target.start:
            offset = found.application_start - self.target.base
            raise WrongChipError(
                f"{self.port.name}: this Katapult starts applications at {found.application_start:#010x}, expected "
                f"{self.target.start:#010x}; nothing was erased. Set flash_offset = {offset:#x} for this board, and "
                "give it an image that was built for that"
            )
        return Found(chip_id=found.mcu, uid="")

    def unprotect(self, entry: Entry, ask: Ask) -> None:
        raise ProtocolError(f"{self.port.name}: Katapult knows no read protection; leave unprotect out for this board")

    def read(self, progress: Progress) -> bytes:
        block = self._bootloader().block_size
        size = min(self.target.size, self._flash_end() - self.target.offset) // block * block
        if size <= 0:
            raise WrongChipError(
                f"{self.port.name}: the chip has {self._flash_end()} bytes of flash, but the application is said to "
                f"begin at offset {self.target.offset:#x}; correct the board's chip in the inventory"
            )
        return trimmed(self._read(size, progress), block)

    def write(self, image: bytes, progress: Progress) -> None:
        self.probe()
        block = self._bootloader().block_size
        data = filled(image, block)
        for offset in range(0, len(data), block):
            self._speak().send_block(self.target.start + offset, data[offset : offset + block])
            progress(offset + block, len(data))
        self._speak().end_of_file()

    def verify(self, image: bytes, progress: Progress) -> None:
        expected = filled(image, self._bootloader().block_size)
        at = difference(self._read(len(expected), progress), expected)
        if at is not None:
            raise VerifyError(
                f"{self.port.name}: verify at {self.target.start + at:#010x}: the flash differs from the image"
            )

    def reset(self) -> None:
        try:
            self._complete()
            # Over a UART nothing happens, or the application says its first words.
            self.port.read(1, LEAVE_SECONDS)
        except PortError:
            self._follow(lambda: True)
        self.found = None

    def leave(self) -> None:
        if self._answers(tries=2):
            self.reset()

    def _complete(self) -> None:
        try:
            self._speak().complete()
        except ProtocolError:
            # An answer that was lost leaves nobody there to be told again; whether the application runs is checked.
            if self._answers(tries=2):
                self._speak().complete()

    def _request(self) -> None:
        """Ask the running firmware for its bootloader in every way there is."""
        for _ in range(REQUESTS):
            self._tell(lambda: self.port.write(katapult.REQUEST))
            if self._answers_within(REQUEST_SECONDS):
                return
        self._tell(self._touch)
        if self._answers_within(TOUCH_SECONDS):
            return
        raise NoAnswerError(
            f"{self.port.name}: the firmware did not enter Katapult when asked, by the request string and by "
            f"{TOUCH_BAUDRATE} bit/s; if Katapult is there, press RESET twice and run again, or set "
            'entry = "button"'
        )

    def _touch(self) -> None:
        # In this order: a rate that changes while DTR is released may not be looked at.
        self.port.set_baudrate(TOUCH_BAUDRATE)
        self.port.play([(False, None, 0.1), (True, None, 0.0)])
        self.port.set_baudrate(self.target.baudrate)

    def _tell(self, say: Callable[[], None]) -> None:
        try:
            say()
        except PortError:
            pass  # it has obeyed before the last byte; whether it did is seen when it answers

    def _answers_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._answers_after_return(1):
                return True
        return False

    def _answers_after_return(self, tries: int) -> bool:
        """Whether a bootloader answers, on the port that the board has come back with if it has left this one."""
        try:
            return self._answers(tries)
        except PortError:
            self._follow(lambda: self._answers(1))
            return self.found is not None

    def _follow(self, is_there: Callable[[], bool]) -> None:
        """Open the board's port again once it has left the bus and come back.

        For a moment its name still leads to the device that has gone, so a failure is no answer before the time is up.
        """
        self.port.close()
        deadline = time.monotonic() + RETURN_SECONDS
        while True:
            try:
                self.port = self.reopen()
                is_there()
                return
            except PortError:
                self.port.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(REOPEN_PAUSE)

    def _answers(self, tries: int) -> bool:
        try:
            self.found = self._speak().connect(timeout=0.25, tries=tries)
        except ProtocolError:
            return False
        return True

    def _bootloader(self) -> katapult.Bootloader:
        if self.found is None:
            self.found = self._speak().connect()
        return self.found

    def _speak(self) -> katapult.Katapult:
        return katapult.Katapult(self.port)

    def _flash_end(self) -> int:
        """Return how many bytes of flash the chip itself says that it has; what the target says where it can't.

        A read beyond the flash would hang the bootloader. Katapult reads this register itself (``src/stm32/flash.c``,
        flash_get_page_size); the block that is read here ends with it, and lies in the chip's system memory.
        """
        known = self.target.offset + self.target.size
        family = family_of(self._bootloader().mcu)
        if family is None:
            return known
        block, register = self._bootloader().block_size, family.flash_size & ~(katapult.WORD - 1)
        answer = self._speak().read_block(register + katapult.WORD - block, block)
        place = block - katapult.WORD + family.flash_size - register
        kib = int.from_bytes(answer[place : place + 2], "little")
        return kib * 1024 if 0 < kib < ERASED_REGISTER else known

    def _read(self, size: int, progress: Progress) -> bytes:
        block = self._bootloader().block_size
        data = bytearray()
        for offset in range(0, size, block):
            try:
                data += self._speak().read_block(self.target.start + offset, block)
            except NoAnswerError as error:
                raise NoAnswerError(
                    f"{error}, after {offset} bytes were read. A bootloader that reads beyond the flash hangs: if the "
                    "chip has less than the inventory says, correct the board's chip; then cycle the board's power"
                ) from error
            progress(len(data), size)
        return bytes(data)
