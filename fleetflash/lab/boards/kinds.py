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
from fleetflash.lab.boards.stm32 import Stm32Board
from fleetflash.lab.boards.stm32_chips import STM32F103XB, STM32F446XE, Stm32
from fleetflash.lab.image import build_image


@dataclass(frozen=True)
class Kind:
    """``build(settings, arguments)`` makes the board; ``flash_size`` in bytes, of the file that is its flash.

    ``factory(version)`` is the content of its flash as it leaves the factory, without what stays erased.
    ``options`` are the arguments of its own: flag → what ``add_argument`` takes.
    """

    build: Callable[[Settings, argparse.Namespace], Board]
    flash_size: int
    factory: Callable[[str], bytes]
    help: str
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


KINDS = {
    "bmcu-c": Kind(
        BmcuC.build, 64 * 1024, build_image, "CH32V203 behind a CH340, Klipper or WCH ISP bootloader", (_CHIP_ID,)
    ),
    "stm32f103": _stm32(STM32F103XB),
    "stm32f446": _stm32(STM32F446XE),
    "atmega328p": _avr(ATMEGA328P, "Optiboot"),
    "atmega2560": _avr(ATMEGA2560, "Arduino's STK500v2 bootloader"),
}
