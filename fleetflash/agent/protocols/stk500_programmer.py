"""AVR through the bootloader of an Arduino: an edge on DTR resets the chip, and for about a second somebody listens.

How the edge is made: the Arduino's DTR is tied to reset by a capacitor, which has to charge while DTR and RTS are
released before asserting them pulls reset low (avrdude, ``arduino.c``, arduino_open).
"""

from typing import List, Optional, Union

from fleetflash.agent.port import LineStep, Port
from fleetflash.agent.protocols import entry as ways
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, RefusedError, VerifyError
from fleetflash.agent.protocols.flash_content import difference, filled, trimmed
from fleetflash.agent.protocols.programmer import Ask, Capabilities, Found, Pace, Progress, Reopen, Target
from fleetflash.agent.protocols.stk500v1 import Stk500v1
from fleetflash.agent.protocols.stk500v2 import Stk500v2
from fleetflash.agent.schema import Entry

Bootloader = Union[Stk500v1, Stk500v2]

BAUDRATE = 115200
RESET_PULSE: List[LineStep] = [(False, False, 0.25), (True, True, 0.05)]
#: A first byte may fall into the moment of the reset.
RESETS = 4
#: How long each try to find a bootloader waits, in seconds. Optiboot 4.4 flashes a lamp for 0.38 s before it listens
#: (``optiboot.c``, flash_led); what is sent twice until then overruns the two bytes that the chip's UART keeps.
V1_TIMEOUTS, V2_TIMEOUTS = (0.5, 0.15, 0.15), (0.25, 0.25)
#: After an earlier try went unanswered, its answer may still be on its way, in seconds.
LATE_SECONDS = 0.1


class Stk500Programmer:
    """One board with optiboot or another bootloader of STK500's version 1, or with that of a Mega 2560, version 2.

    The bootloader goes back to the application when nobody speaks for a second, so it is looked for again, by a reset
    if need be, before anything is written.
    """

    DEFAULT_GESTURE = "tap RESET"

    capabilities = Capabilities(
        read_back=True,
        entries=("lines", "button"),
        tells_uid=False,
        quiet=2.0,
        pace=Pace(baudrate=BAUDRATE, chunk=128, overhead=13, trips=2, busy=0.009, fixed=2.0),
    )

    def __init__(self, port: Port, target: Target, reopen: Reopen):
        self.port = port
        self.target = target
        self.bootloader: Optional[Bootloader] = None
        self.found: Optional[Found] = None
        self._has_programmed = False

    def enter(self, entry: Entry, ask: Ask) -> None:
        self.port.set_baudrate(BAUDRATE)
        if entry.method == "lines":
            self._restart()
        elif entry.method == "button":
            # One that listens already may have programmed before: only a reset makes it begin at page 0 again.
            self._has_left()
            ways.enter_by_hand(self.port, entry, ask, self._answers, self.DEFAULT_GESTURE)
            self._has_programmed = False
        elif not self._answers(1):
            raise NoAnswerError(f"{self.port.name}: no AVR bootloader answers, and the board has no way to enter it")

    def probe(self) -> Found:
        """Say what is there. ``chip_id`` is the chip's signature, e.g. ``1e950f``; an AVR has no unique id."""
        if self.found is None:
            self.found = Found(chip_id=self._listening().signature().hex(), uid="")
        return self.found

    def unprotect(self, entry: Entry, ask: Ask) -> None:
        raise ProtocolError(f"{self.port.name}: a bootloader can't lift lock bits; leave unprotect out for this board")

    def read(self, progress: Progress) -> bytes:
        bootloader = self._listening()
        size = self.target.size // bootloader.page * bootloader.page
        return trimmed(self._read(bootloader, size, progress), bootloader.page)

    def write(self, image: bytes, progress: Progress) -> None:
        bootloader = self._listening()
        data = filled(image, bootloader.page)
        if len(data) > min(self.target.size, bootloader.reach):
            raise RefusedError(
                f"{self.port.name}: the image has {len(data)} bytes, below the bootloader are "
                f"{min(self.target.size, bootloader.reach)}; nothing was erased. Give a smaller image"
            )
        if self._has_programmed:
            self._restart()
            bootloader = self._listening()
        self._has_programmed = True
        for start in range(0, len(data), bootloader.page):
            bootloader.program(start, data[start : start + bootloader.page])
            progress(start + bootloader.page, len(data))

    def verify(self, image: bytes, progress: Progress) -> None:
        bootloader = self._listening()
        expected = filled(image, bootloader.page)
        at = difference(self._read(bootloader, len(expected), progress), expected)
        if at is not None:
            raise VerifyError(f"{self.port.name}: verify at {at:#x}: the flash differs from the image")

    def reset(self) -> None:
        try:
            self._speak().leave()
        except ProtocolError:
            # A reset leads to the application too, only later.
            self.port.play(RESET_PULSE)
        self.bootloader = self.found = None

    def leave(self) -> None:
        # One that has stopped answering leaves by a reset, as an application bears it with every opened port.
        if not self._has_left():
            self.port.play(RESET_PULSE)

    def _has_left(self) -> bool:
        """Whether a bootloader has answered, and was sent away."""
        self.port.set_baudrate(BAUDRATE)
        there = self._answers(1)
        if there:
            self.reset()
        return there

    def _listening(self) -> Bootloader:
        """Return the bootloader, which has just answered."""
        if not self._answers(1):
            self._restart()
        return self._speak()

    def _speak(self) -> Bootloader:
        if self.bootloader is None:
            raise NoAnswerError(f"{self.port.name}: no AVR bootloader has answered")
        return self.bootloader

    def _restart(self) -> None:
        for _ in range(RESETS):
            self.port.play(RESET_PULSE)
            if self._answers(1):
                self._has_programmed = False
                return
        raise NoAnswerError(
            f"{self.port.name}: no AVR bootloader answers after a reset by DTR, in STK500 version 1 or 2 at {BAUDRATE} "
            'bit/s; if nothing on this board ties DTR to reset, set entry = "button"'
        )

    def _answers(self, tries: int) -> bool:
        """Look for the version that is known; before that, first for version 1, which version 2 passes over."""
        both: List[Bootloader] = [Stk500v1(self.port), Stk500v2(self.port)]
        candidates = [self.bootloader] if self.bootloader else both
        for _ in range(tries):
            for candidate in candidates:
                for attempt, timeout in enumerate(V1_TIMEOUTS if isinstance(candidate, Stk500v1) else V2_TIMEOUTS):
                    try:
                        candidate.sync(timeout)
                    except ProtocolError:
                        continue
                    if attempt:
                        self.port.read(64, LATE_SECONDS)
                    self.bootloader = candidate
                    return True
        return False

    def _read(self, bootloader: Bootloader, size: int, progress: Progress) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += bootloader.read(len(data), min(bootloader.page, size - len(data)))
            progress(len(data), size)
        return bytes(data)
