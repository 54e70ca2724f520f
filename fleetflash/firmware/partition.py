"""A partition of an ESP chip's flash, as far as deciding goes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Partition:
    """``size`` bytes from ``offset`` on. ``holds``: what the chip does not start without; empty for stored data."""

    name: str
    offset: int
    size: int
    holds: str = ""

    @property
    def end(self) -> int:
        return self.offset + self.size
