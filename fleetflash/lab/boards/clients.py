"""Who holds a board's port open."""

import ctypes
import os
import struct

IN_OPEN = 0x20
IN_CLOSE = 0x08 | 0x10


class Clients:
    """How many programs hold the port open, from inotify.

    A serial port that nobody holds open loses what the board sends.
    """

    def __init__(self, path: str) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0 or self._libc.inotify_add_watch(self.fd, path.encode(), IN_OPEN | IN_CLOSE) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {path}")
        self.count = 0

    def update(self) -> list[bool]:
        """Read what happened: True for every first open, False for every last close since the last call, in order."""
        try:
            events = os.read(self.fd, 65536)
        except BlockingIOError:
            return []
        turns = []
        position = 0
        while position < len(events):
            _, mask, _, name_length = struct.unpack_from("iIII", events, position)
            position += 16 + name_length
            before = self.count
            if mask & IN_OPEN:
                self.count += 1
            elif mask & IN_CLOSE:
                self.count = max(0, self.count - 1)
            if bool(before) != bool(self.count):
                turns.append(bool(self.count))
        return turns

    def close(self) -> None:
        os.close(self.fd)
