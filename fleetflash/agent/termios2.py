"""The kernel's ``struct termios2``: a serial line set to any speed, not only to the ones that POSIX names.

Numbers from Linux ``asm-generic`` (x86, ARM and RISC-V; MIPS, PowerPC and SPARC have their own).
"""

import fcntl
import struct
import termios
from typing import Any, List

_TCGETS2 = 0x802C542A
_TCSETS2 = 0x402C542B
_CBAUD = 0o010017
_BOTHER = 0o010000
_INPUT_SPEED_SHIFT = 16
_CMSPAR = 0o10000000000
_CONTROL_CHARACTERS = 19
# iflag, oflag, cflag, lflag, line discipline, control characters, input speed, output speed
_LAYOUT = struct.Struct(f"4IB{_CONTROL_CHARACTERS}s2I")

_PARITY = {"N": 0, "E": termios.PARENB, "O": termios.PARENB | termios.PARODD}


def read_speed(fd: int) -> int:
    """Return the output speed in bit/s as the driver reports it."""
    return int(_get(fd)[7])


def set_speed(fd: int, baudrate: int) -> int:
    """Set both directions to exactly ``baudrate`` and return what the driver made of it."""
    values = _get(fd)
    # An input speed field of zero means "as the output".
    values[2] = (values[2] & ~(_CBAUD | _CBAUD << _INPUT_SPEED_SHIFT)) | _BOTHER
    values[6] = values[7] = baudrate
    _set(fd, values)
    return read_speed(fd)


def set_parity(fd: int, parity: str) -> None:
    """Set ``N``one, ``E``ven or ``O``dd parity on eight data bits."""
    values = _get(fd)
    values[2] = (values[2] & ~(termios.PARENB | termios.PARODD | _CMSPAR)) | _PARITY[parity]
    _set(fd, values)


def make_raw(fd: int) -> None:
    """Set 8N1, no translation, no flow control; reads report a hang-up as an end of file.

    ``HUPCL`` goes: closing must not drop DTR and RTS, which resets many boards.
    """
    values = _get(fd)
    values[0] = values[1] = values[3] = 0
    values[2] &= ~(
        termios.CSIZE | termios.CSTOPB | termios.PARENB | termios.PARODD | _CMSPAR | termios.CRTSCTS | termios.HUPCL
    )
    values[2] |= termios.CS8 | termios.CREAD | termios.CLOCAL
    characters = bytearray(_CONTROL_CHARACTERS)
    # With VMIN 0 an idle line would read as an end of file too.
    characters[termios.VMIN] = 1
    values[5] = bytes(characters)
    _set(fd, values)


def _get(fd: int) -> List[Any]:
    return list(_LAYOUT.unpack(fcntl.ioctl(fd, _TCGETS2, bytes(_LAYOUT.size))))


def _set(fd: int, values: List[Any]) -> None:
    fcntl.ioctl(fd, _TCSETS2, _LAYOUT.pack(*values))
