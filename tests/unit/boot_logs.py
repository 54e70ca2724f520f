"""Boot logs for tests: those of the report on the SD card behind an IO expander, and what can be wrong with them."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from fleetflash.acceptance.contract_file import read_contract
from fleetflash.agent.acceptance.judge import Judge
from fleetflash.agent.acceptance.lines import LineCutter
from fleetflash.agent.acceptance.verdict import Verdict

CONTRACT = Path(__file__).parents[2] / "contracts" / "io-expander-sd.yaml"

START = (
    "ets Jul 29 2019 12:21:46",
    "",
    "rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)",
    "entry 0x400805f0",
    "I (29) boot: ESP-IDF v5.3.1 2nd stage bootloader",
    "I (310) app_init: Application information:",
    "I (315) app_init: App version:      v1.2.3",
)
RESET = "I (900) i2c_bus_shared: I2C backoff reset"
IO_MODE = "I (950) io_ext: IO_Mode OK (attempt 1, mask=0xFF)"
OUTPUTS = "I (960) sd_extcs: SD ExtCS: IOEXT outputs configured (mask=0xFF, CS=IO4 push-pull)"
INIT_OK = "I (1100) sd: SD state -> INIT_OK"
ABSENT = "I (1100) sd: SD state -> ABSENT"
ALIVE = "I (9000) main: alive"

WITH_CARD = (*START, RESET, IO_MODE, OUTPUTS, INIT_OK, ALIVE)
WITHOUT_CARD = (*START, RESET, IO_MODE, ABSENT, ALIVE)

PANIC = (
    "Guru Meditation Error: Core  0 panic'ed (LoadProhibited). Exception was unhandled.",
    "",
    "Core  0 register dump:",
    "PC      : 0x400d0004  PS      : 0x00060930  A0      : 0x800d0024  A1      : 0x3ffb5f10",
    "",
    "Backtrace: 0x400d0001:0x3ffb5f10 0x400d0021:0x3ffb5f30",
    "",
    "Rebooting...",
)


SOURCE = """
void mount_card(void) { for (;;) ; }
void app_main(void) { mount_card(); }
"""


def build_elf(directory: Path) -> Path:
    """Build what ``PANIC`` fails in, where an ESP32 maps its code; for another machine of 32 bits."""
    source, program = directory / "main.c", directory / "app.elf"
    source.write_text(SOURCE)
    place = ["-Wl,-Ttext=0x400d0000", "-Wl,-e,app_main", "-Wl,--build-id=none"]
    command = ["gcc", "-m32", "-g", "-O0", "-fcf-protection=none", "-nostdlib", "-static", "-no-pie"]
    subprocess.run([*command, *place, str(source), "-o", str(program)], check=True)
    return program


def text(lines: Sequence[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()


def judge(lines: Sequence[str], listened: float | None = None, **equipment: str) -> Verdict:
    """The verdict of the report's contract."""
    judge = Judge(read_contract(CONTRACT), equipment)
    cutter = LineCutter()
    for line in cutter.cut(text(lines)):
        judge.hear(line)
    return judge.verdict(listened)
