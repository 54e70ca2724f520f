"""The few requests that a lab's operator makes to a host's Moonraker."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from fleetflash.lab.errors import LabError

# A proxy that is set for the machine has no business in the lab's network.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Moonraker:
    host: str
    address: str
    port: int = 7125

    def ask(self, path: str, *, post: bool = False, timeout: float = 10.0, **query: str) -> Any:
        """The ``result`` of one request. Raises LabError with Moonraker's own message."""
        url = f"http://{self.address}:{self.port}{path}"
        if query:
            url += "?" + urllib.parse.urlencode(query)
        request = urllib.request.Request(url, method="POST" if post else "GET")
        try:
            with _opener.open(request, timeout=timeout) as response:
                return json.load(response)["result"]
        except urllib.error.HTTPError as error:
            raise LabError(f"{self.host}: moonraker refuses {path}: {_message(error)}") from None
        except (OSError, ValueError, KeyError) as error:
            raise LabError(f"{self.host}: moonraker does not answer: {error}") from None

    def klippy_state(self, timeout: float = 2.0) -> str:
        """``ready``, ``startup``, ``error``, ``shutdown``, ``disconnected``, or ``unreachable``."""
        try:
            return str(self.ask("/server/info", timeout=timeout)["klippy_state"])
        except LabError:
            return "unreachable"

    def print_state(self) -> str:
        """klippy's ``print_stats.state``: ``standby``, ``printing``, ``paused``, ``cancelled``, …"""
        status = self.ask("/printer/objects/query", print_stats="state")["status"]
        return str(status["print_stats"]["state"])

    def start_print(self, filename: str, timeout: float = 15.0) -> None:
        """Start a virtual_sdcard print and wait until klippy reports it."""
        self.ask("/printer/print/start", post=True, filename=filename)
        self._wait_print({"printing"}, timeout)

    def stop_print(self, timeout: float = 15.0) -> None:
        self.ask("/printer/print/cancel", post=True, timeout=timeout)
        self._wait_print({"cancelled", "standby", "complete"}, timeout)

    def _wait_print(self, states: set[str], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while (now := self.print_state()) not in states:
            if time.monotonic() > deadline:
                raise LabError(f"{self.host}: the print is {now}, not {' or '.join(sorted(states))}")
            time.sleep(0.1)


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, OSError):
        return str(error)
