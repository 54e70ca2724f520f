"""A port without a board: what is written is answered by a script, at once, and remembered."""

import itertools
from collections.abc import Callable, Iterator

from fleetflash.agent.port import LineStep, PortError

NAME = "/dev/ttyTEST"
Answer = Callable[[bytes], bytes]


def ignore(done: int, total: int) -> None:
    pass


def nobody(gesture: str, seconds: float) -> None:
    raise AssertionError(f"nobody is asked to {gesture}")


class ScriptedPort:
    """``answer`` is given each write and returns what the board says to it. Reads never wait.

    ``broken`` is raised by every read and write, as by a device that has left the bus.
    """

    def __init__(self, answer: Answer = lambda written: b"", name: str = NAME) -> None:
        self.name = name
        self.answer = answer
        self.written: list[bytes] = []
        self.settings: list[int | str] = []
        self.played: list[list[LineStep]] = []
        self.broken: PortError | None = None
        self.closed = False
        self.taken = 0
        self._input = b""

    def read(self, size: int, timeout: float) -> bytes:
        self._check()
        assert size > 0 and timeout > 0
        data, self._input = self._input[:size], self._input[size:]
        self.taken += len(data)
        return data

    def write(self, data: bytes) -> None:
        self._check()
        self.written.append(data)
        self._input += self.answer(data)

    def discard_input(self) -> None:
        self._input = b""

    def set_baudrate(self, baudrate: int) -> None:
        self._check()
        self.settings.append(baudrate)

    def set_parity(self, parity: str) -> None:
        self._check()
        self.settings.append(parity)

    def play(self, steps: list[LineStep]) -> None:
        self._check()
        self.played.append(steps)

    def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        assert not self.closed, "a closed port was used"
        if self.broken is not None:
            raise self.broken


class NoisyPort(ScriptedPort):
    """Whatever is asked, ``noise`` comes in and never ends."""

    def __init__(self, noise: bytes) -> None:
        super().__init__()
        self._noise: Iterator[int] = itertools.cycle(noise)

    def read(self, size: int, timeout: float) -> bytes:
        self.taken += size
        return bytes(itertools.islice(self._noise, size))
