"""The ESP chips a board can carry: identity, register addresses, memory map and what their ROM prints."""

import hashlib
from dataclasses import dataclass
from types import MappingProxyType

POWER_ON, SOFTWARE, WATCHDOG = 0x01, 0x03, 0x10  # reset causes, as the ROM numbers them

_XTENSA_RESETS = MappingProxyType({POWER_ON: "POWERON_RESET", SOFTWARE: "SW_RESET", WATCHDOG: "RTCWDT_RTC_RESET"})
_LATER_RESETS = MappingProxyType({POWER_ON: "POWERON", SOFTWARE: "RTC_SW_SYS_RST", WATCHDOG: "RTCWDT_RTC_RST"})


@dataclass(frozen=True)
class SpiRegisters:
    """Offsets in the SPI controller of the flash (TRM, chapter "SPI Controller", register summary)."""

    base: int
    user: int
    user2: int
    data: int


@dataclass(frozen=True)
class EspChip:
    """One kind of chip.

    Sources: the TRM's register summaries of eFuse, GPIO and UART; "Firmware Image Format" for ``image_id`` and the
    bootloader's offset; "Boot Mode Selection" and published boot logs for what the ROM prints.
    """

    kind: str
    name: str
    image_id: int
    magic: int  # the word at 0x40001000, by which the first chips are told apart
    efuse_base: int
    spi: SpiRegisters
    strap_register: int
    uart_clock_register: int
    bootloader_offset: int
    drom: int  # where flash is mapped for constants
    irom: int  # ... and for code
    iram: range
    bootloader_dram: int  # where the bootloader's data and code are loaded
    bootloader_iram: int
    app_iram: int
    has_security_info: bool
    greeting: tuple[str, ...]
    header_lines: tuple[str, ...]
    strap_flash: int
    strap_download: int
    download_name: str
    resets: MappingProxyType[int, str]

    @property
    def is_first(self) -> bool:
        """The classic ESP32, whose ROM differs in many details from all later ones."""
        return self.kind == "esp32"


_LATER_SPI = SpiRegisters(base=0x6000_2000, user=0x18, user2=0x20, data=0x58)

CHIPS = {
    chip.kind: chip
    for chip in (
        EspChip(
            kind="esp32",
            name="ESP32",
            image_id=0,
            magic=0x00F0_1D83,
            efuse_base=0x3FF5_A000,
            spi=SpiRegisters(base=0x3FF4_2000, user=0x1C, user2=0x24, data=0x80),
            strap_register=0x3FF4_4038,
            uart_clock_register=0x3FF4_0014,
            bootloader_offset=0x1000,
            drom=0x3F40_0000,
            irom=0x400D_0000,
            iram=range(0x4007_0000, 0x400C_0000),
            bootloader_dram=0x3FFF_0030,
            bootloader_iram=0x4007_8000,
            app_iram=0x4008_0000,
            has_security_info=False,
            greeting=("ets Jul 29 2019 12:21:46", ""),
            header_lines=(
                "configsip: 0, SPIWP:0xee",
                "clk_drv:0x00,q_drv:0x00,d_drv:0x00,cs0_drv:0x00,hd_drv:0x00,wp_drv:0x00",
            ),
            strap_flash=0x13,
            strap_download=0x03,
            download_name="DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2)",
            resets=_XTENSA_RESETS,
        ),
        EspChip(
            kind="esp32s3",
            name="ESP32-S3",
            image_id=9,
            magic=0x0000_0009,
            efuse_base=0x6000_7000,
            spi=_LATER_SPI,
            strap_register=0x6000_4038,
            uart_clock_register=0x6000_0014,
            bootloader_offset=0,
            drom=0x3C00_0000,
            irom=0x4200_0000,
            iram=range(0x4037_0000, 0x403E_0000),
            bootloader_dram=0x3FCE_2820,
            bootloader_iram=0x403C_8700,
            app_iram=0x4037_4000,
            has_security_info=True,
            greeting=("ESP-ROM:esp32s3-20210327", "Build:Mar 27 2021"),
            header_lines=("SPIWP:0xee",),
            strap_flash=0x08,
            strap_download=0x00,
            download_name="DOWNLOAD(USB/UART0)",
            resets=_LATER_RESETS,
        ),
        EspChip(
            kind="esp32c3",
            name="ESP32-C3",
            image_id=5,
            magic=0x1B31_506F,
            efuse_base=0x6000_8800,
            spi=_LATER_SPI,
            strap_register=0x6000_4038,
            uart_clock_register=0x6000_0014,
            bootloader_offset=0,
            drom=0x3C00_0000,
            irom=0x4200_0000,
            iram=range(0x4037_C000, 0x403E_0000),
            bootloader_dram=0x3FCD_5820,
            bootloader_iram=0x403C_C710,
            app_iram=0x4038_0000,
            has_security_info=True,
            greeting=("ESP-ROM:esp32c3-api1-20210207", "Build:Feb  7 2021"),
            header_lines=("SPIWP:0xee",),
            strap_flash=0x0C,
            strap_download=0x04,
            download_name="DOWNLOAD(USB/UART0/1)",
            resets=_LATER_RESETS,
        ),
    )
}


def mac_from_name(name: str) -> bytes:
    """A MAC address of Espressif's 24:0A:C4 block that is always the same for the same name."""
    return b"\x24\x0a\xc4" + hashlib.sha256(name.encode()).digest()[:3]


def parse_mac(text: str) -> bytes:
    """From 12 hexadecimal digits, with or without colons or dashes; raises ValueError.

    The lab numbers boards by eight bytes: the last three of them go behind Espressif's prefix.
    """
    try:
        mac = bytes.fromhex(text.replace(":", "").replace("-", ""))
    except ValueError:
        mac = b""
    if len(mac) == 8:
        mac = b"\x24\x0a\xc4" + mac[5:]
    if len(mac) != 6:
        raise ValueError(f"MAC address {text!r}: expected 12 hexadecimal digits, e.g. 24:0a:c4:00:00:01")
    return mac
