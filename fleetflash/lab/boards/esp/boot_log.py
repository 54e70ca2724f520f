"""What a chip prints from its reset into the application: ROM, second-stage bootloader, application.

The forms are those of published logs ("Boot Mode Selection", section "Boot Log", and logs in Espressif's forum); the
content is what is in flash. The lines of the application itself come from its image (``fleetflash.lab.esp_image``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleetflash.lab.boards.esp.boot_choice import Choice, Read, choose
from fleetflash.lab.boards.esp.chips import SOFTWARE, WATCHDOG, EspChip
from fleetflash.lab.boards.esp.console import BAUD, Line, Script
from fleetflash.lab.boards.esp.speech import Said
from fleetflash.lab.esp_format import (
    BOOTLOADER_DESCRIPTION,
    BOOTLOADER_MAGIC,
    MAGIC,
    AppDescription,
    Image,
    ImageError,
    read_image,
    read_text,
)
from fleetflash.lab.esp_image import AppLine, app_lines
from fleetflash.lab.esp_partitions import TABLE_OFFSET, Partition, TableError

WATCHDOG_TIME = 0.33  # seconds from reset to reset with a bootloader that can't be loaded
INVALID_HEADER_TIME = 0.043
ROM_TIME = 0.005  # from the release of reset to the first byte
VERIFY_TIME = 0.25 / 0x100000  # seconds per byte of an application
RESTART_TIME = 0.1
#: Called with an application's lines and its version.
Say = Callable[[Sequence[AppLine], str], Said]
MODES = ("QIO", "QOUT", "DIO", "DOUT")


@dataclass(frozen=True)
class Started:
    """``application`` runs from ``partition``; both are None when nothing does."""

    script: Script
    application: AppDescription | None = None
    partition: Partition | None = None


class _Log:
    """Collects lines; ``milliseconds`` is what a chip's own clock says when the next one starts."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._time = ROM_TIME

    def add(self, text: str, delay: float = 0.0) -> None:
        """``delay``: seconds of silence before it."""
        before = len(self.lines[-1].text) + 2 if self.lines else 0
        self.lines.append(Line(text, delay + before * 10 / BAUD))
        self._time += delay + (len(text) + 2) * 10 / BAUD

    def say(self, tag: str, text: str, level: str = "I", delay: float = 0.0) -> None:
        """A line as ESP-IDF's log writes it."""
        self.add(f"{level} ({int((self._time + delay) * 1000)}) {tag}: {text}", delay)


def download_script(chip: EspChip, cause: int) -> Script:
    """What the ROM prints in download mode."""
    log = _Log()
    _greet(log, chip, cause, chip.strap_download, chip.download_name)
    log.add("waiting for download")
    return Script(log.lines)


def download_refused_script(chip: EspChip, cause: int) -> Script:
    """The same on a chip whose download mode has been disabled for ever: it resets and tries again."""
    log = _Log()
    _greet(log, chip, cause, chip.strap_download, chip.download_name)
    log.add("Download boot modes disabled")
    return Script(log.lines, restart=SOFTWARE, pause=0.045)


def boot_flash(chip: EspChip, read: Read, size: int, cause: int, say: Say) -> Started:
    """Start from the flash of ``size`` bytes. ``say``: what becomes of the application's own lines."""
    log = _Log()
    _greet(log, chip, cause, chip.strap_flash, "SPI_FAST_FLASH_BOOT")
    first = read(chip.bootloader_offset, 4)
    if first[0] != MAGIC:
        for _ in range(int(WATCHDOG_TIME / INVALID_HEADER_TIME)):
            log.add(f"invalid header: 0x{int.from_bytes(first, 'little'):08x}", INVALID_HEADER_TIME)
        return Started(Script(log.lines, restart=WATCHDOG))
    try:
        bootloader = read_image(
            read(chip.bootloader_offset, TABLE_OFFSET - chip.bootloader_offset), chip.bootloader_offset
        )
    except ImageError as error:
        log.add(f"csum err: {error.reason}" if chip.is_first else error.reason)
        log.add("ets_main.c 371" if chip.is_first else "ets_main.c 329")
        return Started(Script(log.lines, restart=WATCHDOG, pause=WATCHDOG_TIME))
    _load(log, chip, bootloader)
    _introduce(log, chip, bootloader, size)
    try:
        choice = choose(chip, read)
    except TableError as error:
        log.say("flash_parts", str(error), "E")
        log.say("boot", "Failed to verify partition table", "E")
        log.say("boot", "load partition table error!", "E")
        return Started(Script(log.lines, restart=SOFTWARE, pause=RESTART_TIME))
    return _start(log, choice, say)


def _greet(log: _Log, chip: EspChip, cause: int, strap: int, mode: str) -> None:
    for line in chip.greeting:
        log.add(line)
    log.add(f"rst:0x{cause:x} ({chip.resets[cause]}),boot:0x{strap:x} ({mode})")


def _load(log: _Log, chip: EspChip, bootloader: Image) -> None:
    for line in chip.header_lines:
        log.add(line)
    log.add(f"mode:{MODES[bootloader.mode & 3]}, clock div:{1 if bootloader.frequency == 0xF else 2}")
    for segment in bootloader.segments:
        length = str(len(segment.data)) if chip.is_first else f"0x{len(segment.data):x}"
        log.add(f"load:0x{segment.address:08x},len:{length}")
    log.add(f"entry 0x{bootloader.entry:08x}")


def _introduce(log: _Log, chip: EspChip, bootloader: Image, size: int) -> None:
    data = bootloader.segments[0].data
    version, date_time = "", ""
    if len(data) >= BOOTLOADER_DESCRIPTION.size and data[0] == BOOTLOADER_MAGIC:
        fields = BOOTLOADER_DESCRIPTION.unpack_from(data)
        version, date_time = (read_text(field) for field in fields[4:6])
    log.say("boot", f"ESP-IDF {version} 2nd stage bootloader", delay=0.002)
    log.say("boot", f"compile time {date_time}")
    log.say("boot", "chip revision: " + ("v3.1" if chip.is_first else "v0.2"))
    log.say(f"boot.{chip.kind}", f"SPI Flash Size : {size >> 20}MB")


def _start(log: _Log, choice: Choice, say: Say) -> Started:
    log.say("boot", "Partition Table:")
    log.say("boot", "## Label            Usage          Type ST Offset   Length")
    for number, part in enumerate(choice.partitions):
        place = f"{part.type:02x} {part.subtype:02x} {part.offset:08x} {part.size:08x}"
        log.say("boot", f"{number:2d} {part.label:<16s} {part.usage:<16s} {place}")
    log.say("boot", "End of partition table")
    for part, reason in choice.rejected:
        log.say("esp_image", reason, "E", delay=0.001)
        what = "Factory app partition" if part.ota_slot is None else f"OTA app partition slot {part.ota_slot}"
        log.say("boot", f"{what} is not bootable", "E")
    if choice.partition is None or choice.image is None:
        log.say("boot", "No bootable app partitions in the partition table", "E")
        return Started(Script(log.lines, restart=SOFTWARE, pause=RESTART_TIME))
    for number, segment in enumerate(choice.image.segments):
        size = len(segment.data)
        place = f"paddr={choice.partition.offset + segment.offset:08x} vaddr={segment.address:08x}"
        log.say("esp_image", f"segment {number}: {place} size={size:05x}h ({size:6d})", delay=size * VERIFY_TIME)
    log.say("boot", f"Loaded app from partition at offset 0x{choice.partition.offset:x}")
    log.say("boot", "Disabling RNG early entropy source...")
    application = AppDescription.of(choice.image)
    if application:
        _describe(log, application)
    said = say(app_lines(choice.image), application.version if application else "")
    for milliseconds, text in said.lines:
        log.add(text, milliseconds / 1000)
    return Started(Script(log.lines, said.restart, said.pause), application, choice.partition)


def _describe(log: _Log, application: AppDescription) -> None:
    log.say("app_init", "Application information:", delay=0.010)
    for title, text in (
        ("Project name:", application.project),
        ("App version:", application.version),
        ("Compile time:", f"{application.date} {application.time}"),
        ("ELF file SHA256:", f"{application.elf_sha256.hex()[:9]}..."),
        ("ESP-IDF:", application.idf_version),
    ):
        log.say("app_init", f"{title:<17s} {text}")
    log.say("main_task", "Calling app_main()")
