"""No stream of bytes brings a simulated bootloader down, or makes it write where it must not."""

import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetflash.lab.boards.avr_chips import ATMEGA328P, ATMEGA2560, Avr
from fleetflash.lab.boards.circuit import Counters
from fleetflash.lab.boards.faults import Faults
from fleetflash.lab.boards.flash import CodeFlash
from fleetflash.lab.boards.katapult import Katapult
from fleetflash.lab.boards.katapult_chips import KATAPULT_F103, KATAPULT_RP2040, KatapultChip
from fleetflash.lab.boards.katapult_frames import frame as katapult_frame
from fleetflash.lab.boards.loop import Loop, Timer, TimerCallback
from fleetflash.lab.boards.optiboot import Optiboot
from fleetflash.lab.boards.script import Script
from fleetflash.lab.boards.stk500v2 import Stk500v2
from fleetflash.lab.boards.stk500v2 import frame as stk_frame
from fleetflash.lab.boards.stm32_chips import STM32F103XB, STM32F446XE, Stm32
from fleetflash.lab.boards.stm32_memory import Stm32Memory
from fleetflash.lab.boards.stm32_options import Stm32Options
from fleetflash.lab.boards.stm32_rom import Stm32Rom, checksum


class ManualLoop(Loop):
    """Time that goes only as far as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[Timer] = []

    def at(self, due: float, callback: TimerCallback) -> Timer:
        timer = Timer(due, callback)
        self.pending.append(timer)
        return timer

    def run_to(self, now: float) -> None:
        while due := [timer for timer in self.pending if timer.due <= now or timer.cancelled]:
            timer = min(due, key=lambda one: one.due)
            self.pending.remove(timer)
            if not timer.cancelled:
                timer.callback(timer.due)


class Bench:
    """A circuit that keeps what the program sends and does."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.faults = Faults()
        self.counters = Counters()
        self.sent = b""
        self.ended = False

    def send(self, data: bytes, baud: int, at: float) -> float:
        self.sent += data
        return at

    def software_reset(self, at: float) -> None:
        self.ended = True

    def power_cut(self) -> None:
        self.ended = True

    def stall(self, go_on: Callable[[], None] | None) -> None:
        self.ended = True

    def log(self, text: str) -> None:
        pass


def talk(bench: Bench, program: Script, chunks: list[bytes], baud: int = 115200) -> None:
    now = 0.0
    bench.loop.run_to(now)
    for chunk in chunks:
        now += 0.3
        bench.loop.run_to(now)
        program.receive(chunk, baud, now)
    bench.loop.run_to(now + 100)


@contextmanager
def flash_file(size: int) -> Iterator[CodeFlash]:
    with tempfile.TemporaryDirectory() as directory, closing(CodeFlash(Path(directory) / "flash", size)) as flash:
        yield flash


def mixed(frames: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes]]:
    """Frames, frames with a byte changed, and bytes that are none."""
    broken = st.builds(
        lambda raw, at, value: raw[: at % len(raw)] + bytes([value]) + raw[at % len(raw) + 1 :],
        frames,
        st.integers(0, 400),
        st.integers(0, 255),
    )
    return st.lists(st.one_of(frames, frames, broken, st.binary(max_size=40)), max_size=12)


BLOCKS = st.one_of(st.binary(max_size=70), st.binary(min_size=64, max_size=64))
ADDRESSES = st.one_of(
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0x0800_0000, 0x0802_0000).map(lambda value: value & ~63),
    st.integers(0x1000_0000, 0x1020_0000).map(lambda value: value & ~63),
    st.sampled_from([0x1FFF_F800, 0x1FFF_C000, 0x2000_3000, 0x1FFF_7A10, 0x1FFF_F7E8]),
)

katapult_frames = st.builds(
    lambda code, address, data: katapult_frame(code, (struct.pack("<I", address) + data)[: len(data) // 4 * 4 + 4]),
    st.integers(0x10, 0x18),
    ADDRESSES,
    BLOCKS,
)
stk_frames = st.builds(
    lambda sequence, code, data: stk_frame(sequence, bytes([code]) + data),
    st.integers(0, 255),
    st.integers(0, 0x20),
    st.binary(max_size=284),
)
optiboot_frames = st.builds(
    lambda code, data: bytes([code]) + data + b" ",
    st.sampled_from(b"ABEUVdtuQ0P"),
    st.binary(max_size=140),
)
stm32_codes = st.sampled_from([0x00, 0x01, 0x02, 0x11, 0x21, 0x31, 0x43, 0x44, 0x63, 0x73, 0x82, 0x92])


def stm32_command(code: int, address: int, data: bytes) -> bytes:
    where = struct.pack(">I", address)
    count = bytes([max(0, len(data) - 1)])
    body = count + (bytes([count[0] ^ 0xFF]) if code == 0x11 else data + bytes([checksum(count + data)]))
    place = where + bytes([checksum(where)]) if code in (0x11, 0x21, 0x31) else b""
    return bytes([code, code ^ 0xFF]) + place + body


stm32_commands = st.builds(stm32_command, stm32_codes, ADDRESSES, st.binary(max_size=256))


@pytest.mark.parametrize("chip", [KATAPULT_F103, KATAPULT_RP2040], ids=lambda chip: str(chip.name))
@settings(max_examples=60, deadline=None)
@given(chunks=mixed(katapult_frames))
def test_katapult_survives_and_keeps_its_own_code(chip: KatapultChip, chunks: list[bytes]) -> None:
    with flash_file(chip.flash_size) as flash:
        flash.clear_bits(0, chip.own_code())
        bench = Bench()
        talk(bench, Katapult(bench, 0.0, chip, flash, None, lambda _at: None), chunks)
        assert flash.read(0, chip.offset) == chip.own_code()


@pytest.mark.parametrize("chip", [STM32F103XB, STM32F446XE], ids=lambda chip: str(chip.name))
@settings(max_examples=60, deadline=None)
@given(chunks=mixed(stm32_commands))
def test_stm32_rom_survives(chip: Stm32, chunks: list[bytes]) -> None:
    with flash_file(chip.flash_size) as flash:
        options = Stm32Options(flash.path.with_name("options"), chip)
        memory = Stm32Memory(chip, bytes(12), flash, options)
        bench = Bench()
        program = Stm32Rom(bench, 0.0, chip, flash, options, memory, lambda _address, _at: None)
        talk(bench, program, [b"\x7f", *chunks])
        assert bench.sent[:1] == b"\x79"
        assert len(options.raw) == 16
        assert flash.path.stat().st_size == chip.flash_size


@pytest.mark.parametrize(
    ("chip", "frames"), [(ATMEGA328P, optiboot_frames), (ATMEGA2560, stk_frames)], ids=["optiboot", "stk500v2"]
)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_avr_bootloaders_survive_and_keep_their_section(
    chip: Avr, frames: st.SearchStrategy[bytes], data: st.DataObject
) -> None:
    with flash_file(chip.flash_size) as flash, flash_file(chip.eeprom_size) as eeprom:
        flash.clear_bits(chip.application_size, chip.boot_section())
        bench = Bench()
        program: Script
        if chip is ATMEGA328P:
            program = Optiboot(bench, 0.0, chip, flash, lambda _at: None)
        else:
            program = Stk500v2(bench, 0.0, chip, flash, lambda _at: None, eeprom)
        talk(bench, program, data.draw(mixed(frames)))
        assert flash.read(chip.application_size) == chip.boot_section()


def test_the_fuzz_reaches_flash() -> None:
    """The same bench with one good frame of each: a fuzz that is never understood would prove nothing."""
    bench = Bench()
    with flash_file(KATAPULT_F103.flash_size) as flash:
        block = katapult_frame(0x12, struct.pack("<I", 0x0800_2000) + b"\x11" * 64)
        talk(bench, Katapult(bench, 0.0, KATAPULT_F103, flash, None, lambda _at: None), [block])
        assert flash.read(0x2000, 64) == b"\x11" * 64
    with flash_file(ATMEGA2560.flash_size) as flash, flash_file(ATMEGA2560.eeprom_size) as eeprom:
        page = stk_frame(1, struct.pack(">BH7x", 0x13, 256) + b"\x22" * 256)
        talk(bench, Stk500v2(bench, 0.0, ATMEGA2560, flash, lambda _at: None, eeprom), [page])
        assert flash.read(0, 256) == b"\x22" * 256
    with flash_file(ATMEGA328P.flash_size) as flash:
        program = Optiboot(bench, 0.0, ATMEGA328P, flash, lambda _at: None)
        talk(bench, program, [b"d\x00\x80F" + b"\x44" * 128 + b" "])
        assert flash.read(0, 128) == b"\x44" * 128
    chip = STM32F103XB
    with flash_file(chip.flash_size) as flash:
        options = Stm32Options(flash.path.with_name("options"), chip)
        memory = Stm32Memory(chip, bytes(12), flash, options)
        rom = Stm32Rom(bench, 0.0, chip, flash, options, memory, lambda _address, _at: None)
        talk(bench, rom, [b"\x7f", stm32_command(0x31, 0x0800_0400, b"\x33" * 256)])
        assert flash.read(0x400, 256) == b"\x33" * 256
