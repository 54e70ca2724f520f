"""Candump logs as a gateway on a healthy bus makes them, with what a test wants otherwise."""

import struct
from collections.abc import Iterable

#: 2026-01-01, in seconds since 1970.
START = 1767225600.0


def line(time: float, identifier: str, data: bytes, interface: str = "can0") -> bytes:
    return f"({START + time:.6f}) {interface} {identifier}#{data.hex().upper()}".encode()


def limits(charge_voltage: float = 58.4) -> bytes:
    """0x351: volts, amperes, amperes, volts."""
    return struct.pack("<HhhH", round(charge_voltage * 10), 1000, 1200, 440)


def state(soc: int = 80, soh: int = 99, fine: int | None = 8012) -> bytes:
    """0x355: percent, percent, hundredths of a percent."""
    return struct.pack("<HH", soc, soh) + (struct.pack("<H", fine) if fine is not None else b"")


def measured(voltage: float = 52.31, current: float = -12.5, temperature: float = 21.4) -> bytes:
    """0x356: volts, amperes, degrees."""
    return struct.pack("<hhh", round(voltage * 100), round(current * 10), round(temperature * 10))


def bus(seconds: float = 6.0, period: float = 0.5, without: Iterable[str] = ()) -> list[bytes]:
    """All three messages, and another node's, at a period of their own phase each."""
    frames = [(0.01, "351", limits()), (0.02, "355", state()), (0.03, "356", measured()), (0.0, "305", bytes(8))]
    found = [
        (round(phase + number * period, 6), identifier, data)
        for phase, identifier, data in frames
        for number in range(round(seconds / period))
        if identifier not in without
    ]
    return [line(*frame) for frame in sorted(found)]
