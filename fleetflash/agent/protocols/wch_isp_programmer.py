"""CH32V203 through its factory bootloader. Code flash can't be read back: the way back must be known."""

from typing import Optional

from fleetflash.agent.port import Port
from fleetflash.agent.protocols import entry as ways
from fleetflash.agent.protocols import wch_isp
from fleetflash.agent.protocols.errors import CannotReadError, NoAnswerError, ProtectedError, ProtocolError
from fleetflash.agent.protocols.programmer import Ask, Capabilities, Found, Pace, Progress, Reopen, Target
from fleetflash.agent.protocols.wirings import reset_sequence
from fleetflash.agent.schema import Entry


class WchIspProgrammer:
    """A board whose CH32V203 is held in reset, and its BOOT0 raised, by DTR and RTS or by a person."""

    DEFAULT_GESTURE = "hold B (BOOT0), tap R (RESET), then let go of B"

    capabilities = Capabilities(
        read_back=False,
        entries=("lines", "button"),
        wired=True,
        pace=Pace(baudrate=wch_isp.FAST_BAUDRATE, chunk=wch_isp.CHUNK, overhead=20, fixed=1.5),
    )

    def __init__(self, port: Port, target: Target, reopen: Reopen):
        self.port = port
        self.isp = wch_isp.WchIsp(port)
        self.chip: Optional[wch_isp.Chip] = None
        self.wiring = target.wiring

    def enter(self, entry: Entry, ask: Ask) -> None:
        self.wiring = entry.wiring
        if not self._is_in_bootloader():
            self.wiring = ways.enter(self.port, entry, ask, self._answers, self.DEFAULT_GESTURE, "WCH bootloader")

    def probe(self) -> Found:
        if self.chip is None:
            self.chip = self.isp.identify()
        chip_id = f"{self.chip.device_type:02x}:{self.chip.chip_id:02x}"
        return Found(chip_id=chip_id, uid=self.chip.uid, protected=self.chip.protected)

    def unprotect(self, entry: Entry, ask: Ask) -> None:
        self.isp.unprotect()
        self.chip = None
        # The option bytes take effect at the reset that ends unprotect, and that starts the application.
        self.enter(entry, ask)

    def read(self, progress: Progress) -> bytes:
        raise CannotReadError(f"{self.port.name}: WCH's bootloader can't read code flash; register a known-good image")

    def write(self, image: bytes, progress: Progress) -> None:
        if self.probe().protected:
            raise ProtectedError(
                f"{self.port.name}: the chip is read-protected; lifting that erases it, so it is done only when the "
                "inventory says so: set unprotect = True for this board"
            )
        self.isp.speed_up()
        self.isp.erase(len(image))
        self.isp.program(image, progress)

    def verify(self, image: bytes, progress: Progress) -> None:
        self.isp.verify(image, progress)

    def reset(self) -> None:
        try:
            self.isp.reset()
        except ProtocolError as error:
            # A bootloader that does not obey is reset by its lines. Without such lines, silence may mean that it has
            # restarted before it answered, as some versions do. Whether the application runs is checked anyway.
            if self.wiring:
                self.port.play(reset_sequence(self.wiring))
            elif not isinstance(error, NoAnswerError):
                raise
        self.chip = None
        self.port.set_baudrate(wch_isp.BAUDRATE)

    def leave(self) -> None:
        if self._is_in_bootloader():
            self.reset()

    def _is_in_bootloader(self) -> bool:
        """Whether a bootloader answers, at its first rate or, left by an interrupted session, at the fast one."""
        for baudrate in (wch_isp.BAUDRATE, wch_isp.FAST_BAUDRATE):
            self.port.set_baudrate(baudrate)
            if self._answers(tries=2):
                return True
        self.port.set_baudrate(wch_isp.BAUDRATE)
        return False

    def _answers(self, tries: int) -> bool:
        for _ in range(tries):
            try:
                self.chip = self.isp.identify(timeout=0.2)
                return True
            except ProtocolError:
                continue
        return False
