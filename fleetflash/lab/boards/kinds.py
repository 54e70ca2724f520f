"""The kinds of simulated boards, by the name that ``fleetflash board`` and the lab know them by.

A new kind is a module with a ``Board`` subclass, and one entry here.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fleetflash.lab.boards.avr import AvrBoard
from fleetflash.lab.boards.avr_chips import ATMEGA328P, ATMEGA2560, Avr
from fleetflash.lab.boards.bmcu_c import BmcuC
from fleetflash.lab.boards.board import Board, Settings
from fleetflash.lab.boards.esp.board import OPTIONS as ESP_OPTIONS
from fleetflash.lab.boards.esp.board import EspBoard
from fleetflash.lab.boards.esp.chips import CHIPS as ESP_CHIPS
from fleetflash.lab.boards.esp.chips import EspChip
from fleetflash.lab.boards.katapult_board import KatapultUartBoard, KatapultUsbBoard
from fleetflash.lab.boards.katapult_chips import KATAPULT_F103, KATAPULT_F446, KATAPULT_RP2040, KatapultChip
from fleetflash.lab.boards.stm32 import Stm32Board
from fleetflash.lab.boards.stm32_chips import STM32F103XB, STM32F446XE, Stm32
from fleetflash.lab.esp_image import FLASH_SIZE as ESP_FLASH_SIZE
from fleetflash.lab.esp_image import factory_flash
from fleetflash.lab.image import build_image


@dataclass(frozen=True)
class Kind:
    """``build(settings, arguments)`` makes the board; ``flash_size`` in bytes, of the file that is its flash.

    ``factory(version)`` is the content of its flash as it leaves the factory, without what stays erased.
    ``usb``: its port is the chip's own, so it changes with what the chip runs.
    ``options`` are the arguments of its own: flag → what ``add_argument`` takes.
    """

    build: Callable[[Settings, argparse.Namespace], Board]
    flash_size: int
    factory: Callable[[str], bytes]
    help: str
    usb: bool = False
    options: tuple[tuple[str, dict[str, Any]], ...] = ()


_CHIP_ID = ("--chip-id", {"type": lambda text: int(text, 0), "default": 0x31, "metavar": "ID", "help": "default: 0x31"})


def _stm32(chip: Stm32) -> Kind:
    return Kind(
        Stm32Board.of(chip),
        chip.flash_size,
        lambda version: build_image(version, mcu=chip.mcu),
        f"{chip.name} behind a CH340, Klipper or the chip's own UART bootloader",
    )


def _avr(chip: Avr, bootloader: str) -> Kind:
    return Kind(
        AvrBoard.of(chip),
        chip.flash_size,
        lambda version: build_image(version, mcu=chip.mcu),
        f"{chip.name} behind a CH340, Klipper or {bootloader}",
    )


def _katapult(chip: KatapultChip, *, usb: bool) -> Kind:
    def factory(version: str) -> bytes:
        return chip.own_code() + build_image(version, mcu=chip.mcu, base=chip.application)

    board = KatapultUsbBoard if usb else KatapultUartBoard
    port = "on USB" if usb else "behind a CH340"
    return Kind(board.of(chip), chip.flash_size, factory, f"{chip.name} {port}, Klipper behind Katapult", usb)


def _esp(chip: EspChip) -> Kind:
    return Kind(
        EspBoard.of(chip),
        ESP_FLASH_SIZE,
        lambda version: factory_flash(chip.kind, version),
        f"{chip.name} with its flash behind a USB-UART bridge, ESP-IDF application or ROM loader",
        options=ESP_OPTIONS,
    )


KINDS = {
    "bmcu-c": Kind(
        BmcuC.build,
        64 * 1024,
        build_image,
        "CH32V203 behind a CH340, Klipper or WCH ISP bootloader",
        options=(_CHIP_ID,),
    ),
    "stm32f103": _stm32(STM32F103XB),
    "stm32f446": _stm32(STM32F446XE),
    "katapult-f103": _katapult(KATAPULT_F103, usb=False),
    "katapult-f446": _katapult(KATAPULT_F446, usb=True),
    "katapult-rp2040": _katapult(KATAPULT_RP2040, usb=True),
    "atmega328p": _avr(ATMEGA328P, "Optiboot"),
    "atmega2560": _avr(ATMEGA2560, "Arduino's STK500v2 bootloader"),
    **{kind: _esp(chip) for kind, chip in ESP_CHIPS.items()},
}
