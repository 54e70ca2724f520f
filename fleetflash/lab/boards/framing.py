"""Characters on a UART: how long they are, and what is left of them when both ends disagree about parity.

A pseudo-terminal can't say which parity its client has set: the kernel clears PARENB on it (``pty_set_termios`` in
Linux ``drivers/tty/pty.c``), so the lab's shim tells the board, and a board that was not told believes everything.
"""

from enum import StrEnum

PARENB, PARODD = 0x100, 0x200  # termios c_cflag


class Parity(StrEnum):
    """The parity bit of a character, which makes it 11 bits long instead of 10."""

    NONE = "none"
    EVEN = "even"
    ODD = "odd"

    @classmethod
    def of(cls, cflag: int) -> "Parity":
        """What a client's termios flags ask for."""
        if not cflag & PARENB:
            return cls.NONE
        return cls.ODD if cflag & PARODD else cls.EVEN

    @property
    def bits(self) -> int:
        """Start bit, eight data bits, parity bit if any, stop bit."""
        return 10 if self is Parity.NONE else 11


def heard_by_chip(data: bytes, sender: Parity, receiver: Parity) -> bytes:
    """The characters that a chip's UART accepts; those with a framing or parity error are lost.

    Without a parity bit the stop bit is taken for it, and the next character's start bit for the stop bit: only
    the last character of a burst can pass, if its parity happens to be that of a 1.
    """
    if sender is receiver:
        return data
    if sender is Parity.NONE:
        return data[-1:] if data and _parity_bit(data[-1], receiver) else b""
    if receiver is Parity.NONE:
        return bytes(value for value in data if _parity_bit(value, sender))
    return b""


def heard_by_client(data: bytes, sender: Parity, receiver: Parity) -> bytes:
    """What a Linux tty makes of the chip's characters: a framing error reads as a zero byte, parity is not checked."""
    if receiver is Parity.NONE and sender is not Parity.NONE:
        return bytes(value if _parity_bit(value, sender) else 0 for value in data)
    if sender is Parity.NONE and receiver is not Parity.NONE:
        return bytes(len(data) - 1) + data[-1:]
    return data


def _parity_bit(value: int, parity: Parity) -> int:
    return value.bit_count() & 1 ^ (parity is Parity.ODD)
