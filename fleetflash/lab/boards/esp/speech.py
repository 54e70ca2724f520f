"""What an application says once it runs: its own lines, as its board's equipment has it, or what a fault makes of them.

The words of a panic and a brownout are those of ESP-IDF's guide, "Fatal Errors"; those of a failing I2C bus are the
report's on the SD card behind an IO expander, section "Symptôme".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleetflash.lab.boards.esp.chips import SOFTWARE, EspChip
from fleetflash.lab.boards.faults import Faults
from fleetflash.lab.esp_image import AppLine

#: The first line that a failing I2C bus spoils, and what comes instead of it and of all after it.
_FIRST_ON_BUS = "IO_Mode OK"
I2C_ERRORS: tuple[AppLine, ...] = (
    (10, "I (940) sd_extcs: Mounting SD (SDSPI ext-CS)…"),
    (10, "E (950) io_ext: IO_Mode Failed: ESP_ERR_INVALID_RESPONSE"),
    (10, "W (960) sd_host_extcs: CS HIGH attempt 1 failed: ESP_ERR_INVALID_RESPONSE"),
    (10, "W (970) i2c_bus_shared: I2C error noted (streak=3)"),
    (10, "E (980) sd_host_extcs: SD: CS line check failed, check the wiring"),
    (10, "I (990) sd: SD state -> MOUNT_FAIL"),
)
BROWNOUT: tuple[AppLine, ...] = ((5, ""), (0, "Brownout detector was triggered"), (0, ""))


@dataclass(frozen=True)
class Said:
    """``lines``, then nothing more, or a reset by ``restart`` (a cause) after ``pause`` seconds."""

    lines: Sequence[AppLine]
    restart: int | None = None
    pause: float = 0.0


def speak(lines: Sequence[AppLine], version: str, chip: EspChip, equipment: Mapping[str, str], faults: Faults) -> Said:
    """Say what an application's lines become at this start. Lines that begin with ``?name=variant`` are conditional."""
    said = [(delay, text) for delay, line in lines if (text := _on_board(line, equipment)) is not None]
    if missing := faults.take_boot_fault("missing_line", version):
        said = [(delay, text) for delay, text in said if missing.text not in text]
    if faults.take_boot("i2c_errors", version):
        first = next((n for n, (_, text) in enumerate(said) if _FIRST_ON_BUS in text), len(said))
        said = [*said[:first], *I2C_ERRORS]
    if faults.take_boot("brownout", version):
        return Said([*said[: len(said) // 2], *BROWNOUT], SOFTWARE, 0.01)
    if faults.take_boot("panic", version):
        return Said([*said, *panic(chip)], SOFTWARE, 0.01)
    return Said(said)


def panic(chip: EspChip) -> list[AppLine]:
    """A panic in the application's mapped code: registers, and on Xtensa a backtrace of program counters."""
    code = chip.irom + 0x20
    if chip.kind == "esp32c3":
        dump = [
            f"MEPC    : 0x{code + 0x32:08x}  RA      : 0x{code + 0x90:08x}  SP      : 0x3fc91f20  GP      : 0x3fc8a400"
        ]
        title = "Guru Meditation Error: Core  0 panic'ed (Load access fault). Exception was unhandled."
    else:
        dump = [
            f"PC      : 0x{code + 0x32:08x}  PS      : 0x00060930  A0      : 0x800d0093  A1      : 0x3ffb5f10",
            "EXCVADDR: 0x00000000  LBEG    : 0x00000000  LEND    : 0x00000000  LCOUNT  : 0x00000000",
            "",
            f"Backtrace: 0x{code + 0x2F:08x}:0x3ffb5f10 0x{code + 0x90:08x}:0x3ffb5f30",
        ]
        title = "Guru Meditation Error: Core  0 panic'ed (LoadProhibited). Exception was unhandled."
    texts = [title, "", "Core  0 register dump:", *dump, "", "ELF file SHA256: 7f3c2a1b0", "", "Rebooting..."]
    return [(5, texts[0]), *((0, text) for text in texts[1:])]


def _on_board(line: str, equipment: Mapping[str, str]) -> str | None:
    """A line without its condition; ``None`` on a board that does not meet it."""
    if not line.startswith("?"):
        return line
    condition, _, text = line[1:].partition(" ")
    name, _, variant = condition.partition("=")
    return text if equipment.get(name) == variant else None
