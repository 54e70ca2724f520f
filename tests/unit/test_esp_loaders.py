"""The loaders of the simulated ESP chips survive whatever comes in on the line, and SLIP loses no packet."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetflash.lab.boards.circuit import Counters
from fleetflash.lab.boards.esp.chips import CHIPS
from fleetflash.lab.boards.esp.core import Core
from fleetflash.lab.boards.esp.efuses import Security
from fleetflash.lab.boards.esp.loader import Loader
from fleetflash.lab.boards.esp.messages import HEADER, NAMES, READ_REG
from fleetflash.lab.boards.esp.rom_loader import RomLoader
from fleetflash.lab.boards.esp.slip import SlipReader, frame
from fleetflash.lab.boards.esp.spi_flash import SpiFlash, erase_steps
from fleetflash.lab.boards.esp.stub_loader import StubLoader
from fleetflash.lab.boards.faults import Faults
from fleetflash.lab.boards.flash import FlashError
from fleetflash.lab.boards.loop import Timer

LONGEST = 300


class Bench:
    """A circuit that counts what is sent; ``finish`` takes every step of the work under way at once."""

    def __init__(self) -> None:
        self.loop = self
        self.faults = Faults()
        self.counters = Counters()
        self.sent = 0
        self.due: list[Timer] = []

    def at(self, due: float, callback: Callable[[float], None]) -> Timer:
        self.due.append(Timer(due, callback))
        return self.due[-1]

    def finish(self) -> None:
        for _ in range(10_000):
            if not self.due:
                return
            timer = self.due.pop()
            if not timer.cancelled:
                timer.callback(timer.due)
        raise AssertionError("the work does not end")

    def send(self, data: bytes, baud: int, at: float) -> float:
        self.sent += len(data)
        return at

    def restart(self, cause: int, at: float) -> None:
        """The program of the test goes on."""

    def run_user_code(self, at: float) -> None:
        """So it does here."""

    def power_cut(self) -> None:
        """So it does here."""

    def stall(self, go_on: Callable[[], None] | None) -> None:
        """So it does here."""

    def log(self, text: str) -> None:
        """Nobody reads it."""


def loaders(kind: str, path: Path) -> list[tuple[Bench, Loader]]:
    core = Core.after_reset(CHIPS[kind], bytes(6), Security(), SpiFlash(path, 1 << 20))
    found: list[tuple[Bench, Loader]] = []
    for make in (
        lambda bench: RomLoader(bench, core, lambda _stub: None),
        lambda bench: StubLoader(bench, core, 115200),
    ):
        bench = Bench()
        found.append((bench, make(bench)))
    return found


WORDS = st.sampled_from([0, 1, 4, 0x1000, 0x10000, 0x100000, 0xFFFF_F000, 0xFFFF_FFFF]) | st.integers(0, 0x2000)
DATA = st.lists(WORDS, max_size=6).map(lambda words: b"".join(word.to_bytes(4, "little") for word in words))
REQUESTS = st.builds(
    lambda command, data, tail, check: frame(HEADER.pack(0, command, len(data + tail), check) + data + tail),
    st.sampled_from(sorted(NAMES)) | st.integers(0, 255),
    DATA,
    st.binary(max_size=40),
    st.sampled_from([0, 0xEF]) | st.integers(0, 255),
)


@pytest.mark.parametrize("kind", ["esp32", "esp32c3"])
@settings(deadline=None, max_examples=150)
@given(st.lists(REQUESTS | st.binary(max_size=60), max_size=12))
def test_no_request_stops_a_loader(kind: str, requests: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for bench, loader in loaders(kind, Path(directory) / "flash"):
            for request in requests:
                loader.receive(request, 115200, 0.0)
                bench.finish()
            # However it went, it still listens, unless it is reading out or has left for other code.
            before = bench.sent
            for _ in range(3):
                probe = frame(HEADER.pack(0, READ_REG, 4, 0) + bytes.fromhex("00100040"))
                loader.receive(b"\xc0" + probe, loader._baud, 0.0)
                bench.finish()
            assert bench.sent > before or loader._busy


@given(st.lists(st.binary(min_size=1, max_size=LONGEST), max_size=8), st.integers(1, 50))
def test_slip_gives_back_what_was_framed_in_any_pieces(payloads: list[bytes], piece: int) -> None:
    reader = SlipReader(LONGEST)
    stream = b"noise" + b"".join(frame(payload) for payload in payloads)
    found = []
    for start in range(0, len(stream), piece):
        reader.feed(stream[start : start + piece])
        while (payload := reader.next()) is not None:
            found.append(payload)
    assert found == payloads


@given(st.lists(st.binary(max_size=500), max_size=20))
def test_slip_keeps_no_more_than_two_packets(pieces: list[bytes]) -> None:
    reader = SlipReader(LONGEST)
    for piece in pieces:
        reader.feed(piece.replace(b"\xc0", b"\0"))
        assert reader.next() is None
        assert len(reader._buffer) <= 2 * LONGEST + 500


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_an_erase_covers_its_sectors_once(start: int, length: int) -> None:
    steps = list(erase_steps(start, start + length))
    position = start // 0x1000 * 0x1000
    for address, size, seconds in steps:
        assert address == position and seconds > 0
        position += size
    assert position >= start + length
    assert position - (start + length) < 0x1000 + (0x1000 if length == 0 else 0)


def test_flash_files_of_another_size_are_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(FlashError, match="--flash-size"):
        SpiFlash(tmp_path / "big", 1 << 20)
    with pytest.raises(FlashError, match="expected 1, 2, 4, 8 or 16 MiB"):
        SpiFlash(tmp_path / "odd", 3 << 20)
    SpiFlash(tmp_path / "shared", 1 << 20)
    with pytest.raises(FlashError, match="another board"):
        SpiFlash(tmp_path / "shared", 1 << 20)
