"""What is read out of an ESP chip's boot log."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetflash.agent.port import LineStep, Port
from fleetflash.agent.protocols import esp_boot_log
from fleetflash.agent.protocols.esp_boot_log import BootLog

BANNER = b"ets Jun  8 2016 00:22:57\r\n\r\nrst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n"
INFORMATION = (
    b"I (56) app_init: Application information:\r\n"
    b"I (61) app_init: Project name:     gateway\r\n"
    b"I (66) app_init: App version:      v1.2.3\r\n"
    b"I (71) app_init: Compile time:     Jan  1 2026 12:00:00\r\n"
    b"I (77) app_init: ELF file SHA256:  7f3c2a1b0...\r\n"
)


def test_the_application_names_itself() -> None:
    assert esp_boot_log.read(BANNER + INFORMATION) == BootLog("v1.2.3", "gateway", "7f3c2a1b0")


def test_what_the_former_firmware_still_said_is_no_part_of_the_boot() -> None:
    """EN is low for a moment: what has come until then is dropped, and nothing of what comes when it is let go."""

    class Chip:
        waiting = BANNER + INFORMATION.replace(b"v1.2.3", b"v0.9.0")

        def play(self, steps: list[LineStep]) -> None:
            self.waiting += BANNER + INFORMATION if steps == esp_boot_log.RELEASE else b"abort() was called at PC 0x4"

        def discard_input(self) -> None:
            self.waiting = b""

        def read(self, size: int, timeout: float) -> bytes:
            said, self.waiting = self.waiting, b""
            return said

    assert esp_boot_log.watch(cast(Port, Chip()), 0.05) == BootLog("v1.2.3", "gateway", "7f3c2a1b0")


def test_an_older_idf_says_it_in_another_component() -> None:
    old = INFORMATION.replace(b"app_init", b"cpu_start")
    assert esp_boot_log.read(BANNER + old).version == "v1.2.3"


def test_a_version_may_hold_blanks() -> None:
    assert esp_boot_log.read(INFORMATION.replace(b"v1.2.3", b"1.0 beta 2")).version == "1.0 beta 2"


def test_a_line_that_has_not_ended_says_nothing_yet() -> None:
    assert esp_boot_log.read(b"I (66) app_init: App version:      v1.2") == BootLog()


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        (b"Guru Meditation Error: Core  0 panic'ed (LoadProhibited).", "Guru Meditation Error: Core  0 panic'ed"),
        (b"Brownout detector was triggered", "Brownout detector was triggered"),
        (b"abort() was called at PC 0x400d5a33 on core 0", "abort() was called at PC 0x400d5a33"),
        (b"E (88) boot: No bootable app partitions in the partition table", "No bootable app partitions"),
        (b"invalid header: 0xffffffff", "invalid header: 0xffffffff"),
        (b"waiting for download", "waiting for download"),
    ],
)
def test_trouble_is_told_in_the_chips_own_words(line: bytes, trouble: str) -> None:
    assert esp_boot_log.read(BANNER + INFORMATION + line + b"\r\n").trouble.startswith(trouble)


def test_a_chip_that_starts_again_and_again_is_in_trouble() -> None:
    assert esp_boot_log.read(BANNER * 2).trouble == ""
    assert esp_boot_log.read(BANNER * 3).trouble == "it restarts again and again (rst:0x1 (POWERON_RESET))"


@given(st.binary(max_size=4096))
def test_no_noise_is_a_version_or_an_error(log: bytes) -> None:
    found = esp_boot_log.read(log)
    assert isinstance(found.version, str)


def test_colours_around_a_line_are_no_part_of_it() -> None:
    lines = INFORMATION.splitlines()
    colored = b"".join(b"\x1b[0;32m" + line + b"\x1b[0m\r\n" for line in lines)
    assert esp_boot_log.read(BANNER + colored) == BootLog("v1.2.3", "gateway", "7f3c2a1b0")
