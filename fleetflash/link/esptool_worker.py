"""esptool on a port that a host lends: ``python -m fleetflash.link.esptool_worker NAME``, its streams carry frames."""

import queue
import sys
import threading
from typing import Any, BinaryIO

from fleetflash.agent import wire
from fleetflash.agent.tools.esptool_worker import Worker, streams
from fleetflash.link.errors import LinkError
from fleetflash.link.port import LEASE_HEARTBEAT, RemotePort
from fleetflash.link.pyserial_url import LentSerial

Message = dict[str, Any]

#: Frames that are the tool's; all others are the port's.
CALLS = ("call", "piece")


class Streams:
    """Implements ``port.FrameChannel`` on two streams, and keeps what is meant for the tool apart."""

    def __init__(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        self._stdout = stdout
        self._writing = threading.Lock()
        self._for_port: queue.Queue[Message | bytes | None] = queue.Queue()
        self._for_tool: queue.Queue[Message | None] = queue.Queue()
        threading.Thread(target=self._read, args=(stdin,), daemon=True).start()

    def send(self, message: Message) -> None:
        self._write(wire.encode_json(message))

    def send_data(self, data: bytes) -> None:
        self._write(wire.encode(wire.DATA, data))

    def receive(self, timeout: float) -> Message | bytes:
        try:
            frame = self._for_port.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        if frame is None:
            raise LinkError("the host no longer lends the port")
        return frame

    def next_call(self) -> Message:
        """Return what the tool is told next; raises ``EOFError`` when nobody is there any more."""
        message = self._for_tool.get()
        if message is None:
            raise EOFError
        return message

    def _write(self, data: bytes) -> None:
        try:
            with self._writing:
                self._stdout.write(data)
        except OSError as error:
            raise LinkError(str(error)) from None

    def _read(self, stdin: BinaryIO) -> None:
        try:
            while (frame := wire.read_frame(stdin)) is not None:
                kind, payload = frame
                if kind == wire.DATA:
                    self._for_port.put(payload)
                    continue
                message = wire.decode_json(payload)
                if message["type"] in CALLS:
                    self._for_tool.put(message)
                else:
                    self._for_port.put(message)
        except (OSError, wire.WireError):
            pass
        self._for_port.put(None)
        self._for_tool.put(None)


def main() -> int:
    """Serve calls until the streams end."""
    channel = Streams(*streams())
    port = LentSerial(RemotePort(channel, sys.argv[1], background=True, heartbeat=LEASE_HEARTBEAT))

    def open_port() -> LentSerial:
        port.open()
        return port

    worker = Worker(open_port, channel.send, channel.next_call)
    try:
        while True:
            worker.serve(channel.next_call())
    except (EOFError, LinkError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
