"""A client of a simulated board's control socket: JSON lines, one request, one reply."""

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetflash.lab.errors import LabError


@dataclass(frozen=True)
class Control:
    """What the lab's operator can do to a board without its serial port."""

    path: Path

    def ask(self, op: str, *, patience: float = 10.0, **arguments: Any) -> dict[str, Any]:
        """Send one request; returns the reply. Raises LabError when the board refuses or is gone."""
        request = json.dumps({"op": op, **arguments}) + "\n"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(patience)
                connection.connect(str(self.path))
                connection.sendall(request.encode())
                with connection.makefile("r") as answers:
                    line = answers.readline()
            reply = json.loads(line)
        except (OSError, ValueError) as error:
            raise LabError(f"board {self.path.parent.name} does not answer {op}: {error}") from None
        if not isinstance(reply, dict) or not reply.get("ok"):
            raise LabError(f"board {self.path.parent.name} refuses {op}: {reply}")
        return reply

    def status(self) -> dict[str, Any]:
        """``{"mode": "application" | "bootloader" | "off", "version": …, "programs": n, "paused": bool, …}``"""
        return self.ask("status")

    def press(self) -> None:
        """Hold B, tap R: the boot button."""
        self.ask("press")

    def power(self, on: bool) -> None:
        self.ask("power", on=on)

    def pause(self, command: str, byte: int, count: int = 1) -> None:
        """Stop answering when ``command`` has reached ``byte``; ``count``: after resets again, so often in all."""
        self.ask("pause", command=command, byte=byte, count=count)

    def wait_paused(self, timeout: float) -> None:
        """Raises LabError when the board has not paused within ``timeout`` seconds."""
        reply = self.ask("wait_paused", patience=timeout + 5, timeout=timeout)
        if not reply["paused"]:
            raise LabError(f"board {self.path.parent.name} did not pause within {timeout:g} s")

    def resume(self) -> None:
        self.ask("resume")
