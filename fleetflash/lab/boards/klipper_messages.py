"""Klipper commands and responses as the data dictionary spells them: ``clock clock=%u``."""

from typing import Any

from fleetflash.lab.boards.klipper_wire import decode_integer, encode_integer

Arguments = dict[str, Any]


class Message:
    """One command or response of the dictionary: ``name field=%type …``."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.name, *fields = text.split()
        self.fields = [(field.partition("=")[0], field.partition("=")[2]) for field in fields]

    def decode(self, data: bytes, position: int) -> tuple[Arguments, int]:
        arguments: Arguments = {}
        for name, kind in self.fields:
            if kind.endswith("s"):
                length = data[position]
                if position + 1 + length > len(data):
                    raise IndexError("string runs over the end of the block")
                arguments[name] = data[position + 1 : position + 1 + length]
                position += 1 + length
            else:
                value, position = decode_integer(data, position)
                arguments[name] = value if kind.endswith("i") else value & 0xFFFF_FFFF
        return arguments, position

    def encode(self, arguments: Arguments) -> bytes:
        parts = [encode_integer(self.number)]
        for name, kind in self.fields:
            value = arguments[name]
            parts.append(bytes([len(value)]) + value if kind.endswith("s") else encode_integer(value & 0xFFFF_FFFF))
        return b"".join(parts)
