"""The battery that a simulated gateway watches: what it says of it in JSON and in CAN frames.

Source of the frames: public descriptions of Victron's CAN-bus BMS protocol: 0x351 limits (0.1 V, 0.1 A), 0x355 states
(1 %, 0.01 %), 0x356 measurements (0.01 V, 0.1 A, 0.1 degrees Celsius), low byte first.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Battery:
    """Volts, amperes, per cent and degrees Celsius."""

    voltage: float = 52.31
    current: float = -12.5
    soc: float = 80.0
    soh: float = 99.0
    temperature: float = 21.4
    charge_voltage: float = 56.8
    charge_current: float = 100.0
    discharge_current: float = 120.0
    discharge_voltage: float = 44.0

    def telemetry(self) -> dict[str, Any]:
        return {"voltage": self.voltage, "current": self.current, "soc": self.soc, "temperature": self.temperature}

    def frames(self, scale: float = 1.0) -> Iterator[tuple[int, bytes]]:
        """Yield identifier and data of the frames that are sent every second. ``scale``: of the limits' voltages."""
        limits = (self.charge_voltage * scale, self.charge_current, self.discharge_current)
        charge, amperes, load = (round(10 * value) for value in limits)
        yield 0x351, struct.pack("<HhhH", charge, amperes, load, round(10 * self.discharge_voltage * scale))
        yield 0x355, struct.pack("<HHH", round(self.soc), round(self.soh), round(100 * self.soc))
        measured = (round(100 * self.voltage), round(10 * self.current), round(10 * self.temperature))
        yield 0x356, struct.pack("<hhh", *measured)
