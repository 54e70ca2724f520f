"""A slow cable: two TAP devices joined by a queue that lets every packet out half a round trip later.

Run as ``python -m fleetflash.lab.delay OUTER INNER ROUND_TRIP_MS``; the devices live as long as the process. It
needs no ``sch_netem`` in the kernel, only ``/dev/net/tun``.
"""

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA
_TAP_WITHOUT_HEADER = 0x0002 | 0x1000
_LARGEST_FRAME = 65536
# Beyond this a real router would drop, too.
_LONGEST_QUEUE = 4096


def tap(name: str) -> int:
    """Create a TAP device; returns its file descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP_WITHOUT_HEADER))
    return device


def forward(one: int, other: int, delay: float) -> None:
    """Carry frames between two devices for ever, each ``delay`` seconds late. Order is kept."""
    other_end = {one: other, other: one}
    queue: deque[tuple[float, int, bytes]] = deque()
    while True:
        wait = max(0.0, queue[0][0] - time.monotonic()) if queue else None
        for device in select.select([one, other], [], [], wait)[0]:
            try:
                frame = os.read(device, _LARGEST_FRAME)
            except OSError:
                continue  # the device is down for the moment
            if len(queue) < _LONGEST_QUEUE:
                queue.append((time.monotonic() + delay, other_end[device], frame))
        while queue and queue[0][0] <= time.monotonic():
            _, device, frame = queue.popleft()
            try:
                os.write(device, frame)
            except OSError:
                pass  # as lost as on a cable with nobody at its end


def main(outer: str, inner: str, round_trip_ms: str) -> None:
    forward(tap(outer), tap(inner), float(round_trip_ms) / 2000)


if __name__ == "__main__":
    main(*sys.argv[1:])
