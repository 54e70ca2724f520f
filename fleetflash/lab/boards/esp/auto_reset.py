"""The automatic reset circuit of Espressif's boards: DTR and RTS through two cross-coupled transistors.

Source: schematic of the ESP32-DevKitC V4, "Micro USB 5V & USB-UART", with its truth table; "Boot Mode Selection",
section "Automatic Bootloader". An asserted line is low at the USB bridge:

===  ===  ==  ===
DTR  RTS  EN  IO0
===  ===  ==  ===
1    1    1   1
0    0    1   1
1    0    0   1
0    1    1   0
===  ===  ==  ===

The capacitor at EN is pulled down at once, but charged through a resistor: IO0 is read ``RISE_TIME`` after EN was
released. Tools that set the lines one after the other depend on that.
"""

from fleetflash.lab.boards.modem import LINES
from fleetflash.lab.boards.reset_pin import Chip

RISE_TIME = 0.010  # seconds: 10 kOhm and 1 uF


class AutoReset:
    """EN (``holding`` when low) and IO0 (``asked`` when low), as a board's reset pin."""

    def __init__(self) -> None:
        self.holding = False

    def power_on(self, bits: int) -> bool:
        self.holding = reset_held(bits)
        return self.holding

    def power_off(self) -> None:
        self.holding = False

    def asked(self, bits: int) -> bool:
        """IO0 is low: DTR asserted, RTS not."""
        return bool(bits & LINES["dtr"]) and not bits & LINES["rts"]

    def changed(self, bits: int, chip: Chip) -> None:
        held, before = reset_held(bits), self.holding
        self.holding = held
        if held and not before:
            chip.hold_in_reset()
        elif before and not held:
            chip.release_reset()


def reset_held(bits: int) -> bool:
    """EN is low: RTS asserted, DTR not."""
    return bool(bits & LINES["rts"]) and not bits & LINES["dtr"]
