"""The chips that are known, and whether an image belongs on one.

Only what a source says is here; a chip that is missing is added with its source, never guessed.
WCH: ch32-rs/wchisp ``devices/0x19-CH32V20x.yaml`` (ISP ids, flash sizes).
AVR: Klipper ``src/avr/Kconfig`` (``MCU`` constants), Microchip's data sheets (flash sizes, signatures), ``boards.txt``
of Arduino's AVR core (boot sections: optiboot 512 bytes, the Mega 2560's 8 KiB).
STM32: Klipper ``src/stm32/Kconfig`` (``MCU`` constants; Katapult's are the same), ST's data sheets (flash sizes),
AN2606 (product ids of the boot ROM, which chips' ROM knows USB).
Linux process: Klipper ``src/linux/Kconfig`` (``MCU``); its size is what this program takes for an image at most.
RP2040: Klipper ``src/rp2040/Kconfig`` (``MCU``), RP2040 data sheet, section 2.2 (flash window); its flash is a chip of
its own, of at least 2 MiB on the boards that run Klipper.
ESP32 family: esptool ``targets`` (names); flash is a chip of its own, whose size only it can tell, up to 32 MiB behind
these chips.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleetflash.firmware.errors import ImageSizeError, UnknownChipError, WrongChipError
from fleetflash.firmware.image import Image, ImageFormat

#: The family of chips whose images are archives of parts.
ESP = "esp32"


@dataclass(frozen=True)
class WchIsp:
    """What a WCH boot ROM answers to *identify*: the device type, and the chip ids that mean this chip."""

    device_type: int
    chip_ids: tuple[int, ...]


@dataclass(frozen=True)
class Chip:
    """One microcontroller.

    ``flash_bases`` are the addresses at which its flash is seen (one may be an alias of the other);
    ``mcu_prefixes`` are beginnings of Klipper's ``MCU`` constant that fit. ``boot_bytes`` at the end of the flash are a
    bootloader's. ``program``: there is no chip, and an image is a whole program file. ``bootloaders``: programmer →
    what its bootloader calls this chip (``Found.chip_id`` of the agent).
    """

    name: str
    family: str
    flash_bytes: int
    flash_bases: tuple[int, ...]
    mcu_prefixes: tuple[str, ...]
    isp: WchIsp | None = None
    boot_bytes: int = 0
    program: bool = False
    bootloaders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def room(self, offset: int) -> int:
        """Return how many bytes an application that begins at ``offset`` in the flash may have."""
        return self.flash_bytes - self.boot_bytes - offset

    def bootloader_ids(self, programmer: str) -> tuple[str, ...]:
        """Return what this chip may be called by the bootloader of a programmer; none when it can't write the chip."""
        if programmer in ("wch_isp", "wchisp") and self.isp is not None:
            return tuple(f"{self.isp.device_type:02x}:{chip_id:02x}" for chip_id in self.isp.chip_ids)
        return self.bootloaders.get(programmer, ())


# Code flash lies at 0x08000000 and is mapped to 0 at boot; builds are linked to either.
_CH32V20X_FLASH = (0x0000_0000, 0x0800_0000)


def _ch32v203(variant: str, flash_kib: int, *chip_ids: int) -> Chip:
    return Chip(
        name=f"ch32v203{variant}",
        family="ch32v20x",
        flash_bytes=flash_kib * 1024,
        flash_bases=_CH32V20X_FLASH,
        mcu_prefixes=("ch32v203",),
        isp=WchIsp(0x19, chip_ids),
    )


def _stm32(name: str, flash_kib: int, mcu: str, product_id: str, usb: bool = True) -> Chip:
    """``mcu``: Klipper's and Katapult's constant, one for all sizes of a chip. ``usb``: its ROM knows DFU."""
    dfu = {"dfu_util": (f"0483:df11/{flash_kib}",)} if usb else {}
    katapult = dict.fromkeys(("katapult", "katapult_can", "flashtool", "make_flash"), (mcu,))
    return Chip(
        name=name,
        family=name[:7],
        flash_bytes=flash_kib * 1024,
        flash_bases=(0x0800_0000,),
        mcu_prefixes=(mcu[:9],),
        bootloaders={"stm32_rom": (product_id,), **katapult, **dfu},
    )


def _avr(name: str, flash_kib: int, boot_bytes: int, signature: str) -> Chip:
    return Chip(
        name=name,
        family="avr",
        flash_bytes=flash_kib * 1024,
        flash_bases=(0,),
        mcu_prefixes=(name.removesuffix("p"),),
        boot_bytes=boot_bytes,
        bootloaders={"stk500": (signature,)},
    )


def _esp(name: str) -> Chip:
    """No MCU constant fits: Klipper is not built for these."""
    return Chip(
        name=name,
        family=ESP,
        flash_bytes=32 * 1024 * 1024,
        flash_bases=(0,),
        mcu_prefixes=("none",),
        bootloaders={"esptool": (name,)},
    )


_CHIPS = (
    _ch32v203("c8u6", 64, 0x30),
    _ch32v203("c8t6", 64, 0x31),
    _ch32v203("k8t6", 64, 0x32),
    _ch32v203("c6t6", 32, 0x33),
    _ch32v203("rbt6", 128, 0x34),
    _ch32v203("k6t6", 32, 0x35),
    _ch32v203("g6u6", 32, 0x36),
    _ch32v203("f6p6", 32, 0x37, 0x39),
    _ch32v203("g8r6", 64, 0x3B),
    _avr("atmega328p", 32, 512, "1e950f"),
    _avr("atmega2560", 256, 8 * 1024, "1e9801"),
    _stm32("stm32f042x6", 32, "stm32f042x6", "0445"),
    _stm32("stm32f072xb", 128, "stm32f072xb", "0448"),
    _stm32("stm32f103xb", 128, "stm32f103xe", "0410", usb=False),
    _stm32("stm32f103xc", 256, "stm32f103xe", "0414", usb=False),
    _stm32("stm32f401xc", 256, "stm32f401xc", "0423"),
    _stm32("stm32f405xg", 1024, "stm32f405xx", "0413"),
    _stm32("stm32f407xg", 1024, "stm32f407xx", "0413"),
    _stm32("stm32f446xc", 256, "stm32f446xx", "0421"),
    _stm32("stm32f446xe", 512, "stm32f446xx", "0421"),
    _stm32("stm32g0b1xb", 128, "stm32g0b1xx", "0467"),
    _stm32("stm32g0b1xe", 512, "stm32g0b1xx", "0467"),
    _stm32("stm32h723xg", 1024, "stm32h723xx", "0483"),
    _stm32("stm32h743xi", 2048, "stm32h743xx", "0450"),
    Chip(
        "rp2040",
        "rp2040",
        2 * 1024 * 1024,
        (0x1000_0000,),
        ("rp2040",),
        bootloaders=dict.fromkeys(("katapult", "katapult_can", "flashtool", "picotool"), ("rp2040",)),
    ),
    _esp("esp32"),
    _esp("esp32s2"),
    _esp("esp32s3"),
    _esp("esp32c3"),
    _esp("esp32c6"),
    Chip(
        "linux",
        "linux",
        32 * 1024 * 1024,
        (0,),
        ("linux",),
        program=True,
        bootloaders={"linux_process": ("linux",)},
    ),
)

CHIPS: dict[str, Chip] = {chip.name: chip for chip in _CHIPS}


def chip(name: str) -> Chip:
    """Return the chip of that name in any case; ``UnknownChipError`` offers near names."""
    key = name.strip().lower()
    if key in CHIPS:
        return CHIPS[key]
    near = difflib.get_close_matches(key, CHIPS, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(CHIPS))}"
    raise UnknownChipError(f"unknown chip {name!r}: {hint}")


def chip_by_isp(device_type: int, chip_id: int) -> Chip | None:
    """Return the chip that a WCH boot ROM names, or ``None`` for one that is not known."""
    for candidate in _CHIPS:
        if candidate.isp and candidate.isp.device_type == device_type and chip_id in candidate.isp.chip_ids:
            return candidate
    return None


def mcu_fits(mcu: str, chip: Chip) -> bool:
    """Say whether Klipper's ``MCU`` constant fits a chip.

    ``ch32v203`` fits every variant; ``ch32v203rb`` names one and fits no other, though it begins alike.
    """
    mcu = mcu.lower()
    if not mcu.startswith(chip.mcu_prefixes):
        return False
    named = {known.name for known in _CHIPS if known.name.startswith(mcu) or mcu.startswith(known.name)}
    return not named or chip.name in named


def check_image_fits(image: Image, chip: Chip) -> int:
    """Return the offset into the chip's flash at which the image belongs.

    Raises ``WrongChipError`` when its dictionary names another microcontroller and ``ImageSizeError`` when it
    has no bytes or lies outside the flash. An image without a dictionary can only be checked for its size.
    """
    if image.dictionary is not None and not mcu_fits(image.dictionary.mcu, chip):
        raise WrongChipError(
            f"{image.name} was built for {image.dictionary.mcu!r}, but the chip is {chip.name} "
            f"(expected {' or '.join(chip.mcu_prefixes)}); choose an image of this chip"
        )
    if not image.data:
        raise ImageSizeError(f"{image.name} holds no bytes for {chip.name} ({image.format}); give the image itself")
    # A raw file does not know where flash begins, so its address counts from there.
    bases = (0,) if image.format is ImageFormat.RAW else chip.flash_bases
    for base in bases:
        offset = image.base_address - base
        if offset >= 0 and offset + len(image.data) <= chip.flash_bytes:
            return offset
    where = " or ".join(f"{base:#x}" for base in bases)
    raise ImageSizeError(
        f"{image.name} needs {len(image.data)} bytes at {image.base_address:#x}, but "
        f"{chip.name} has {chip.flash_bytes} bytes of flash at {where}; build it smaller, or for this chip"
    )
