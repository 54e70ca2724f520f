"""What the loader in ROM and the one in RAM (the stub) have in common: requests in, answers out, faults between."""

import struct
import time
from collections.abc import Callable

from fleetflash.lab.boards.esp.circuit import EspCircuit, Job, Steps
from fleetflash.lab.boards.esp.core import Core
from fleetflash.lab.boards.esp.download import Download
from fleetflash.lab.boards.esp.messages import (
    ERASE_FLASH,
    ERASE_REGION,
    FLASH_BEGIN,
    FLASH_DATA,
    FLASH_DEFL_BEGIN,
    FLASH_DEFL_DATA,
    LONGEST,
    NAMES,
    READ_FLASH,
    READ_FLASH_SLOW,
    SPI_FLASH_MD5,
    Answer,
    Request,
    parse,
)
from fleetflash.lab.boards.esp.slip import SlipReader, frame
from fleetflash.lab.boards.esp.spi_flash import erase_steps
from fleetflash.lab.boards.faults import Fault
from fleetflash.lab.boards.line import same_rate
from fleetflash.lab.boards.loop import Timer

Handler = Callable[[Request], Answer | Job]
#: What a fault does to an answer on its way out.
Change = Callable[[bytes], bytes]

BEGINS = (FLASH_BEGIN, FLASH_DEFL_BEGIN)
DATA = (FLASH_DATA, FLASH_DEFL_DATA)
COPIES = 8  # how often the ROM and the stub answer SYNC


class Loader:
    """One run of a loader. The subclass fills ``handlers`` and says how its answers end."""

    status_length: int
    unknown: Answer
    invalid: Answer

    def __init__(self, circuit: EspCircuit, core: Core, baud: int) -> None:
        self._circuit = circuit
        self._core = core
        self._baud = baud
        self._reader = SlipReader(LONGEST)
        self._download: Download | None = None
        self._busy = False
        self._stopped = False
        self._timer: Timer | None = None
        self._after: Callable[[float], None] | None = None
        self._background: Steps | None = None
        self.handlers: dict[int, Handler] = {}
        core.registers.set_baud(baud)

    def stop(self) -> None:
        self._stopped = True
        if self._timer:
            self._timer.cancel()

    def receive(self, data: bytes, baud: int, at: float) -> None:
        # At another rate a UART sees framing errors and hands nothing on.
        if same_rate(baud, self._baud):
            self._reader.feed(data)
            self._work(at)

    def _work(self, at: float) -> None:
        while not self._busy and not self._stopped and (packet := self._reader.next()) is not None:
            self._packet(packet, at)

    def _packet(self, packet: bytes, at: float) -> None:
        if request := parse(packet):
            self._arrived(request, at)

    # Faults

    def _arrived(self, request: Request, at: float) -> None:
        name = NAMES.get(request.command, "")
        start, length = self._covers(request)
        fault = self._circuit.faults.take(name, start, length) if name else None
        if fault is None:
            self._execute(request, at)
            return
        self._circuit.log(f"fault {fault.kind} at {name} 0x{request.command:02x} {request.data[:16].hex()}")
        self._misbehave(fault, request, at)

    def _covers(self, request: Request) -> tuple[int | None, int]:
        """Which flash bytes a request is about: the first, and how many."""
        try:
            if request.command in BEGINS:
                size, _, _, offset = request.words(4)
                return offset, size
            if request.command in DATA and self._download:
                return self._download.position, self._download.length_of(request.payload)
            if request.command in (SPI_FLASH_MD5, READ_FLASH, READ_FLASH_SLOW, ERASE_REGION):
                offset, size = request.words(2)
                return offset, size
        except struct.error:
            return None, 0
        return (0, self._core.flash.size) if request.command == ERASE_FLASH else (None, 0)

    def _misbehave(self, fault: Fault, request: Request, at: float) -> None:
        if fault.kind == "pause":
            self._busy = True
            self._circuit.stall(lambda: self._resume(request))
        elif fault.kind == "hang":
            self._busy = True
            self._circuit.stall(None)
        elif fault.kind == "wrong_status":
            self._send(Answer(error=fault.status).packet(request.command, self.status_length), at)
        elif fault.kind == "garbage":
            self._circuit.send(bytes(range(0x80, 0x90)), self._baud, at)
        elif fault.kind == "power_cut":
            self._busy = True
            self._advance(self._cut_short(fault, request), at, lambda _answer, _when: self._circuit.power_cut())
        elif fault.kind == "drop_reply":
            self._execute(request, at, change=lambda _packet: b"")
        elif fault.kind == "corrupt" and request.command in DATA and self._download:
            self._download.flip_at = self._download.position if fault.byte is None else fault.byte
            self._execute(request, at)
        elif fault.kind == "corrupt":
            # SLIP has no checksum: an answer that is no answer any more.
            self._execute(request, at, change=lambda packet: bytes([packet[0] ^ 0x10]) + packet[1:])

    def _resume(self, request: Request) -> None:
        now = time.monotonic()
        self._busy = False
        self._execute(request, now)
        self._work(now)

    def _cut_short(self, fault: Fault, request: Request) -> Job:
        """Do the part of a program or erase that lies before the byte; without a byte nothing."""
        start, length = self._covers(request)
        if fault.byte is None or start is None:
            return Answer()
        if request.command in DATA and self._download:
            yield from self._download.write(self._download.unpack(request.payload)[: fault.byte - start])
        elif NAMES[request.command] == "erase":
            yield from self._erase(start, start + length, before=fault.byte)
        return Answer()

    # Execution

    def _execute(self, request: Request, at: float, change: Change | None = None) -> None:
        """Run one request. ``change`` lets a fault alter the answer on its way out."""
        handler = self.handlers.get(request.command)
        try:
            outcome = handler(request) if handler else self.unknown
        except struct.error:
            outcome = self.invalid
        if isinstance(outcome, Answer):
            self._answered(request, outcome, at, change)
            return
        self._busy = True
        self._advance(outcome, at, lambda answer, when: self._finished(request, answer, when, change))

    def _advance(self, job: Job, at: float, done: Callable[[Answer, float], None]) -> None:
        """Take the next step of a job, each at its own time: a board killed meanwhile is done up to there."""
        if self._stopped:
            return
        try:
            seconds = next(job)
        except StopIteration as end:
            done(end.value, at)
            return
        except struct.error:
            done(self.invalid, at)
            return
        self._timer = self._circuit.loop.at(at + seconds, lambda due: self._advance(job, due, done))

    def _finished(self, request: Request, answer: Answer, at: float, change: Change | None) -> None:
        self._answered(request, answer, at, change)
        # What has come in meanwhile.
        self._work(at)

    def _answered(self, request: Request, answer: Answer, at: float, change: Change | None) -> None:
        self._busy = False
        packet = self._complete(answer).packet(request.command, self.status_length)
        packet = change(packet) if change else packet
        copies = self._copies(request, answer)
        done = at
        for _ in range(copies if packet else 0):
            done = self._send(packet, done)
        self._follow(request, answer, at, done)

    def _follow(self, request: Request, answer: Answer, at: float, sent: float) -> None:
        """What a request still causes once its answer is on the wire: until ``sent``."""
        after, self._after = self._after, None
        background, self._background = self._background, None
        if answer.error:
            return
        if after:
            after(sent)
        elif background:
            self._busy = True
            self._advance(_as_job(background), at, lambda _answer, when: self._idle(when))

    def _idle(self, at: float) -> None:
        self._busy = False
        self._work(at)

    def _send(self, packet: bytes, at: float) -> float:
        return self._circuit.send(frame(packet), self._baud, at)

    def _complete(self, answer: Answer) -> Answer:
        """The answer with what this loader puts into every one."""
        return answer

    def _copies(self, _request: Request, _answer: Answer) -> int:
        return 1

    def _change_baud(self, baud: int) -> None:
        self._baud = baud
        self._reader.clear()
        self._core.registers.set_baud(baud)
        self._circuit.log(f"baud {baud}")

    def _erase(self, start: int, end: int, before: int | None = None) -> Steps:
        """Erase the sectors of ``start`` to ``end``, as far as they end before ``before``."""
        for address, length, seconds in erase_steps(start, end):
            if before is not None and address + length > before:
                return
            yield seconds
            self._core.flash.erase(address, length)


def _as_job(steps: Steps) -> Job:
    yield from steps
    return Answer()
