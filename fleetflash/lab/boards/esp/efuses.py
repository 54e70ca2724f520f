"""eFuse words: MAC address, chip revision, and what the owner has burnt to lock the chip."""

import struct
from dataclasses import dataclass

from fleetflash.lab.boards.esp.chips import EspChip

# GET_SECURITY_INFO flags ("Serial Protocol" of the ESP32-S3, and its TRM, chapter "eFuse Controller").
SECURE_BOOT_FLAG = 1 << 0
SECURE_DOWNLOAD_FLAG = 1 << 2

_XTS_AES_128_KEY = 4  # key purposes, TRM table "Secure Key Purpose Values"
_SECURE_BOOT_DIGEST0 = 9


@dataclass(frozen=True)
class Security:
    """What is burnt. Images are neither signed nor encrypted here: a chip only says so, and refuses what it would."""

    secure_boot: bool = False
    flash_encryption: bool = False
    secure_download: bool = False  # S2 and later: only writing is left of the serial protocol
    download_disabled: bool = False

    def info(self, chip: EspChip) -> bytes:
        """The answer to GET_SECURITY_INFO: flags, flash_crypt_cnt, 7 key purposes, chip id, version.

        The last purpose is 12 in the answers of real chips.
        """
        flags = SECURE_BOOT_FLAG * self.secure_boot | SECURE_DOWNLOAD_FLAG * self.secure_download
        purposes = bytes([*self.purposes(), 12])
        return struct.pack("<IB7sII", flags, int(self.flash_encryption), purposes, chip.image_id, 0)

    def purposes(self) -> list[int]:
        """What the six key blocks are for."""
        keys = [_XTS_AES_128_KEY] * self.flash_encryption + [_SECURE_BOOT_DIGEST0] * self.secure_boot
        return keys + [0] * (6 - len(keys))


def words(chip: EspChip, mac: bytes, security: Security) -> dict[int, int]:
    """Register address to eFuse word, for those that are not zero."""
    if chip.is_first:
        return _esp32_words(chip.efuse_base, mac, security)
    return _later_words(chip.efuse_base, mac, security)


def _esp32_words(base: int, mac: bytes, security: Security) -> dict[int, int]:
    """Block 0 (ESP32 TRM, chapter "eFuse Controller"): an ESP32-D0WD-V3, revision 3.1, 40 MHz crystal."""
    crypt_count = int(security.flash_encryption) << 20
    package, rated, revision_0 = 1 << 9, 1 << 13, 1 << 15
    revision_1, minor = 1 << 20, 1 << 24
    return {
        base + 0x00: crypt_count,
        base + 0x04: int.from_bytes(mac[2:], "big"),
        base + 0x08: int.from_bytes(mac[:2], "big") | crc8(mac) << 16,
        base + 0x0C: package | rated | revision_0,
        base + 0x10: 54 | 16 << 8,  # CK8M_FREQ, ADC_VREF
        base + 0x14: revision_1 | minor,
        base + 0x18: int(security.secure_boot) << 5,  # ABS_DONE_1: secure boot V2
        0x3FF6_607C: 1 << 31 | 0x1604_2000,  # APB_CTL_DATE: its top bit is the third revision bit
        0x3FF5_F06C: 1896 << 7,  # RTC calibration against the 8 MHz clock, from which a 40 MHz crystal follows
    }


def _later_words(base: int, mac: bytes, security: Security) -> dict[int, int]:
    """Blocks 0 and 1 of the S3 and C3, which share their layout (TRM): revision 0.2 of the S3, 0.2 of the C3."""
    purposes = security.purposes()
    data1 = purposes[0] << 24 | purposes[1] << 28 | int(security.flash_encryption) << 18
    data2 = sum(purpose << 4 * place for place, purpose in enumerate(purposes[2:])) | int(security.secure_boot) << 20
    return {
        base + 0x34: data1,
        base + 0x38: data2,
        base + 0x44: int.from_bytes(mac[2:], "big"),
        base + 0x48: int.from_bytes(mac[:2], "big"),
        base + 0x50: 2 << 18,  # minor revision
    }


def crc8(data: bytes) -> int:
    """CRC-8 of the MAC address in eFuse: polynomial x^8 + x^5 + x^4 + 1, bits reversed, start 0."""
    crc = 0
    for value in data:
        crc ^= value
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc
