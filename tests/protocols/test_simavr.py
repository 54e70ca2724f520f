"""Our stk500 against real AVR code: the bootloaders that Debian ships, run instruction by instruction by simavr.

Here nobody has read a protocol's description but the bootloader's authors.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from board_process import BoardProcess
from programmed_board import backup, described, flash, nobody, open_port
from simavr_chip import BOOTLOADERS, MEGA, UNO, Arduino, SimulatedChip, compile_simulator, to_binary

from fleetflash.agent.board import BoardOnPort
from fleetflash.agent.protocols.errors import VerifyError, WrongChipError

HERE = Path(__file__).parent
NEEDED = ("/usr/bin/avr-gcc", "/usr/include/simavr/sim_avr.h", "/usr/lib/avr/include/avr/io.h", str(BOOTLOADERS))
#: What make test installs; where it is not, somebody has called pytest alone.
MISSING = [path for path in NEEDED if not Path(path).exists()]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs Debian's AVR tools: {' '.join(MISSING)} missing")


Plug = Callable[[Arduino], SimulatedChip]
ARDUINOS = pytest.mark.parametrize("arduino", [UNO, MEGA], ids=lambda arduino: arduino.mcu)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_simulator(tmp_path_factory.mktemp("simavr"))


@pytest.fixture
def plug(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plug]:
    # Behind a real port there is no process; here the simulator has the pseudo-terminal open.
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: [])
    chips: list[SimulatedChip] = []

    def start(arduino: Arduino) -> SimulatedChip:
        chips.append(SimulatedChip.with_bootloader(program, arduino, tmp_path))
        return chips[-1]

    yield start
    for chip in chips:
        chip.stop()


def build(arduino: Arduino, name: str, directory: Path) -> bytes:
    """A program that says ``name`` when asked, over several pages of flash, as the compiler made it."""
    elf, binary = directory / f"{name}.elf", directory / f"{name}.bin"
    padding = " ".join(f"{name}{number}" for number in range(200))
    subprocess.run(
        [
            *("avr-gcc", f"-mmcu={arduino.mcu}", "-Os", "-DF_CPU=16000000UL", "-DBAUD=115200", "-Wall", "-Werror"),
            *(f'-DNAME="{name}"', f'-DPADDING_TEXT="{padding}"', "-o", str(elf), str(HERE / "simavr_app.c")),
        ],
        check=True,
    )
    to_binary("elf32-avr", elf, binary)
    image = binary.read_bytes()
    assert len(image) > 4 * arduino.page
    return image


def on(chip: SimulatedChip, arduino: Arduino, **changes: Any) -> BoardOnPort:
    fields: dict[str, Any] = {
        "chip": arduino.mcu,
        "chip_ids": [arduino.signature],
        "flash_size": arduino.room,
        "programmer": "stk500",
        **changes,
    }
    return described(cast(BoardProcess, chip), b"", **fields)


def says(chip: SimulatedChip) -> str:
    """What the program on the chip answers after its bootloader was told to leave; DTR stays asserted meanwhile."""
    port = open_port(cast(BoardProcess, chip))
    try:
        answer = b""
        deadline = time.monotonic() + 20
        while not answer.endswith(b"\n") and time.monotonic() < deadline:
            port.write(b"" if answer else b"?")
            answer += port.read(64, 0.5)
        return answer.decode("ascii", "replace").strip()
    finally:
        port.close()


@ARDUINOS
def test_real_bootloader_is_written_verified_and_left_for_a_program_that_answers(
    plug: Plug, arduino: Arduino, tmp_path: Path
) -> None:
    chip = plug(arduino)
    before = chip.flash()
    for name in ("one", "two"):
        image = build(arduino, name, tmp_path)
        flash(on(chip, arduino), image)
        held = chip.flash()
        assert held[: len(image)] == image
        assert held[arduino.room :] == before[arduino.room :] != b"\xff" * len(before[arduino.room :])
        assert says(chip) == name


@ARDUINOS
def test_backup_of_a_real_bootloader_is_what_the_chip_holds_and_takes_it_back(
    plug: Plug, arduino: Arduino, tmp_path: Path
) -> None:
    chip = plug(arduino)
    target = on(chip, arduino, flash_size=64 * arduino.page)
    one = build(arduino, "one", tmp_path)
    flash(target, one)
    saved = backup(target)
    assert saved[: len(one)] == one and set(saved[len(one) :]) <= {0xFF}
    flash(target, build(arduino, "two", tmp_path))
    assert says(chip) == "two"
    flash(target, saved)
    assert says(chip) == "one"


@ARDUINOS
def test_chip_that_is_not_the_boards_is_left_untouched(plug: Plug, arduino: Arduino, tmp_path: Path) -> None:
    chip = plug(arduino)
    flash(on(chip, arduino), build(arduino, "one", tmp_path))
    before = chip.flash()
    with (
        pytest.raises(WrongChipError, match=f"found chip {arduino.signature}"),
        on(chip, arduino, chip_ids=["1e9307"]).in_bootloader(nobody, ""),
    ):
        raise AssertionError("entered")
    assert chip.flash() == before and says(chip) == "one"


@ARDUINOS
def test_verifying_another_image_than_the_one_that_was_written_says_where_it_differs(
    plug: Plug, arduino: Arduino, tmp_path: Path
) -> None:
    chip = plug(arduino)
    one = build(arduino, "one", tmp_path)
    at = 3 * arduino.page + 5
    with on(chip, arduino).in_bootloader(nobody, "") as session:
        session.programmer.write(one, lambda done, total: None)
        other = one[:at] + bytes([one[at] ^ 0x10]) + one[at + 1 :]
        with pytest.raises(VerifyError, match=f"verify at {at:#x}:"):
            session.programmer.verify(other, lambda done, total: None)
