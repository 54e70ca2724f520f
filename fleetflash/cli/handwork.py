"""One board by hand: what ``fleetflash port`` does with it, without inventory, guard or journal."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleetflash.agent.port import Port, PortError
from fleetflash.agent.protocols import esp_boot_log, klipper
from fleetflash.agent.protocols.errors import ProtectedError, ProtocolError
from fleetflash.agent.protocols.flash_parts import unpack
from fleetflash.agent.protocols.programmer import Found, Programmer, Progress, Target
from fleetflash.agent.protocols.programmers import PROGRAMMERS
from fleetflash.agent.protocols.wirings import reset_sequence
from fleetflash.agent.schema import Entry
from fleetflash.firmware.chips import Chip, check_image_fits
from fleetflash.firmware.esp import read_layout
from fleetflash.firmware.image import load_image
from fleetflash.link.bench import BenchPort
from fleetflash.link.errors import LinkError

#: A board that has just been reset gets this long to answer with its firmware, in seconds.
BOOT_SECONDS = 15.0
#: What a board, its port or its link can do wrong.
FAILURES = (ProtocolError, PortError, LinkError)
#: (phase, bytes done, bytes in all).
Report = Callable[[str, int, int], None]


class HandworkError(Exception):
    """It can't be done, or was not; one line that says what to do."""


class UntouchedError(HandworkError):
    """It was not begun: nothing was erased."""


def _left(started: bool, backup: Path | None) -> str:
    """Say what a lost link has left of a flash, and what to do."""
    if started:
        return "the board is written, verified and started; ask it what it runs with `fleetflash port identify`"
    what = f"this command again with --way-back {backup} instead of --backup" if backup else "this command again"
    return f"the board waits in its bootloader; when the host is back, run {what}"


def identify(port: Port) -> klipper.Dictionary:
    """Ask the running Klipper firmware what it is; it may still be starting."""
    return klipper.identify(port, timeout=0.5, tries=round(BOOT_SECONDS / 0.5))


@dataclass(frozen=True)
class Content:
    """What is written: ``data`` as the programmer takes it; ``version`` is empty where the board can't tell its own."""

    data: bytes
    version: str = ""


@dataclass(frozen=True)
class Job:
    """One board on one port. ``ask``: tell a person what to do.

    ``baud``: the application's rate in bit/s. ``offset``: where in the flash the application begins.
    """

    port: BenchPort
    programmer: str
    entry: Entry
    ask: Callable[[str, float], None]
    report: Report
    chip: Chip
    offset: int = 0
    baud: int = 250000

    def load(self, path: Path) -> Content:
        """Read an image and check that it is one for this chip and place; raises ``FirmwareError``."""
        if self._parts:
            layout = read_layout(path, self.chip, self.offset or None)
            return Content(layout.packed(), layout.version)
        image = load_image(path, self.offset)
        offset = check_image_fits(image, self.chip)
        if offset != self.offset:
            raise HandworkError(
                f"{path} belongs at offset {offset:#x} in the flash, but --offset says {self.offset:#x}; correct it, "
                "or give an image that was built for it"
            )
        return Content(image.data, image.dictionary.version if image.dictionary else "")

    def info(self) -> Found:
        """Ask the bootloader what the chip is, and start the application again."""
        with self._in_bootloader() as programmer:
            return programmer.probe()

    def backup(self, path: Path) -> int:
        """Read the application's flash into a new file; return its bytes."""
        self._check_new(path)
        with self._in_bootloader() as programmer:
            self._read(programmer, path)
        return path.stat().st_size

    def verify(self, image: Content) -> None:
        """Compare the flash with an image, and start the application again; raises ``VerifyError``."""
        with self._in_bootloader() as programmer:
            programmer.verify(image.data, self._phase("verify"))

    def flash(self, image: Content, backup: Path | None, way_back: Content | None) -> str:
        """Write an image; return what the board runs then, empty when it can't say.

        + backup: read the old firmware into this new file first; it is the way back
        + way_back: what is written when ``image`` can't be

        A board that fails is brought back; raises ``HandworkError`` that says how that ended.
        """
        former = way_back.data if way_back else None
        if backup is not None:
            self._check_new(backup)
            with self._in_bootloader() as programmer:
                former = self._read(programmer, backup)
        begun = started = False
        try:
            with self._in_bootloader() as programmer:
                begun = True
                self._write(programmer, image.data)
            started = True
            return self._check_runs(image)
        except LinkError as error:
            if not begun:
                raise
            raise HandworkError(f"{error}; {_left(started, backup)}") from error
        except (*FAILURES, HandworkError) as error:
            if not begun or isinstance(error, ProtectedError):
                raise
            raise HandworkError(f"{error}; {self._restore(former)}") from error

    def reset(self) -> None:
        """Start the application: out of the bootloader, or by the lines that reset the board."""
        capabilities = PROGRAMMERS[self.programmer].capabilities
        programmer = self._programmer()
        programmer.leave()
        if capabilities.wired and self.entry.wiring:
            programmer.port.play(reset_sequence(self.entry.wiring))

    def _programmer(self) -> Programmer:
        target = Target(self.chip.flash_bases[0], self.offset, self.chip.room(self.offset), self.baud)
        return PROGRAMMERS[self.programmer](self.port.open(self.baud), target, lambda: self.port.reopen(self.baud))

    @contextmanager
    def _in_bootloader(self) -> Iterator[Programmer]:
        """Enter the bootloader and leave it again; raises ``UntouchedError`` for a chip that is not the one named."""
        programmer = self._programmer()
        programmer.enter(self.entry, self.ask)
        try:
            found = programmer.probe()
            known = self.chip.bootloader_ids(self.programmer)
            if found.chip_id not in known:
                raise UntouchedError(
                    f"{self.port.name}: found chip {found.chip_id}, expected {' or '.join(known)} ({self.chip.name}); "
                    "nothing was erased. Correct --chip or the port"
                )
            yield programmer
        except (*FAILURES, HandworkError):
            try:
                programmer.reset()
            except FAILURES:
                pass  # what went wrong first is what is told
            raise
        programmer.reset()

    def _read(self, programmer: Programmer, path: Path) -> bytes:
        data = programmer.read(self._phase("read"))
        if not data:
            raise UntouchedError(f"{self.port.name}: its flash is empty, there is nothing to read; nothing was erased")
        # All of an ESP chip's flash is one part: a file that any of its tools takes.
        content = unpack(data)[0].data if self._parts else data
        try:
            with path.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UntouchedError(f"{path}: {error.strerror}; nothing was erased") from error
        return data

    def _write(self, programmer: Programmer, data: bytes) -> None:
        programmer.write(data, self._phase("program"))
        programmer.verify(data, self._phase("verify"))

    def _check_runs(self, image: Content) -> str:
        if not image.version:
            return ""
        if self._parts:
            return self._check_boots(image)
        port = self.port.reopen(self.baud)
        time.sleep(PROGRAMMERS[self.programmer].capabilities.quiet)
        found = identify(port)
        if found.version != image.version:
            raise HandworkError(f"{self.port.name}: runs {found.version}, expected {image.version}")
        return found.version

    def _check_boots(self, image: Content) -> str:
        found = esp_boot_log.watch(self.port.reopen(self.baud))
        if found.trouble or found.version not in ("", image.version):
            what = found.trouble or f"boots {found.version}"
            raise HandworkError(f"{self.port.name}: {what}, expected {image.version}")
        return found.version

    @property
    def _parts(self) -> bool:
        """Whether the programmer takes an archive of parts."""
        return PROGRAMMERS[self.programmer].capabilities.parts

    def _restore(self, former: bytes | None) -> str:
        if former is None:
            return "there is no way back; flash it again"
        try:
            with self._in_bootloader() as programmer:
                self._write(programmer, former)
        except (*FAILURES, HandworkError) as error:
            return f"the former firmware could not be written back either: {error}"
        return "the former firmware was written back"

    def _check_new(self, path: Path) -> None:
        if path.exists():
            raise HandworkError(f"{path} exists already; name a new file")

    def _phase(self, name: str) -> Progress:
        return lambda done, total: self.report(name, done, total)
