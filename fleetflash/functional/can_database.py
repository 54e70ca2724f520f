"""What the frames of a bus mean: messages and signals of a DBC file, through cantools."""

from dataclasses import dataclass
from pathlib import Path

import cantools
from cantools.database.can import Database
from cantools.database.can.message import Message
from cantools.database.errors import Error as DatabaseError

from fleetflash.functional.errors import CheckDataError


@dataclass(frozen=True)
class SignalType:
    """``low``, ``high``: in ``unit``, ``None`` where the DBC says nothing. ``always``: not only in some frames."""

    name: str
    unit: str
    low: float | None
    high: float | None
    always: bool


@dataclass(frozen=True)
class MessageType:
    """``period``: seconds, from GenMsgCycleTime, ``None`` where the DBC says nothing."""

    name: str
    identifier: int
    extended: bool
    period: float | None
    signals: tuple[SignalType, ...]


class CanDatabase:
    """A DBC file; raises ``CheckDataError`` in one line that names it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            found = cantools.database.load_file(str(path), database_format="dbc", strict=True)
        except OSError as error:
            raise CheckDataError(f"{path}: {error.strerror}; give a DBC file as dbc") from None
        except (DatabaseError, UnicodeDecodeError) as error:
            first = str(error).strip().partition("\n")[0]
            raise CheckDataError(f"{path}: no DBC file that cantools reads: {first}") from None
        assert isinstance(found, Database)
        self._messages = {self._key(message): message for message in found.messages}

    def message(self, wanted: str) -> MessageType:
        """Return a message by name, or by identifier as ``0x351``, which is one of 11 bits unless it has 8 digits."""
        for (identifier, extended), message in self._messages.items():
            digits = f"{identifier:08x}" if extended else f"{identifier:03x}"
            if wanted == message.name or wanted.lower() == f"0x{digits}":
                return MessageType(
                    message.name, identifier, extended, _seconds(message.cycle_time), tuple(_signals(message))
                )
        there = ", ".join(f"{number:#x} {message.name}" for (number, _), message in self._messages.items())
        raise CheckDataError(f"checks.can.messages: {self.path.name} has no {wanted}; it has {there[:200] or 'none'}")

    def decode(self, identifier: int, extended: bool, data: bytes) -> dict[str, float]:
        """Return signal → value in its unit; what a short frame does not hold is left out."""
        message = self._messages[identifier, extended]
        try:
            found = message.decode(data, decode_choices=False, allow_truncated=True)
        except DatabaseError:
            return {}  # too short for anything, or of a multiplexer that the DBC does not know
        assert isinstance(found, dict)
        return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}

    @staticmethod
    def _key(message: Message) -> tuple[int, bool]:
        return message.frame_id, message.is_extended_frame


def _signals(message: Message) -> list[SignalType]:
    return [
        SignalType(
            signal.name,
            signal.unit or "",
            None if signal.minimum is None else float(signal.minimum),
            None if signal.maximum is None else float(signal.maximum),
            signal.multiplexer_ids is None,
        )
        for signal in message.signals
    ]


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1000 if milliseconds else None
