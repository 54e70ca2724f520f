"""What a simulated gateway does in its networks once its application runs: web, MQTT, CAN; gone with every reset."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fleetflash.lab.boards.esp.battery import Battery
from fleetflash.lab.boards.esp.mqtt import Account, MqttClient
from fleetflash.lab.boards.esp.web_server import WebServer
from fleetflash.lab.boards.faults import Faults
from fleetflash.lab.boards.loop import Loop, Timer
from fleetflash.lab.esp_format import AppDescription

#: Seconds from the start of an application until it has joined its networks.
JOIN_TIME = 0.5

#: What ``fleetflash board`` takes for them: flag, and what ``add_argument`` takes.
OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--http", {"default": "", "metavar": "ADDRESS:PORT", "help": "serve / and /api/status there"}),
    ("--mqtt", {"default": "", "metavar": "ADDRESS:PORT", "help": "be at the broker there"}),
    ("--mqtt-login", {"default": "", "metavar": "USER:PASSWORD", "help": "what the broker wants"}),
    ("--topic", {"default": "bms/gateway", "metavar": "PREFIX", "help": "of MQTT (default: %(default)s)"}),
    ("--candump", {"default": "", "metavar": "FILE", "help": "append the CAN frames, as candump -L prints them"}),
)


class Service(Protocol):
    def close(self) -> None: ...


@dataclass(frozen=True)
class Networks:
    """Where a gateway's networks are; empty: it is in none of that kind."""

    http: tuple[str, int] | None = None
    mqtt: tuple[str, int] | None = None
    login: tuple[str, str] = ("", "")
    topic: str = ""
    candump: Path | None = None

    @classmethod
    def of(cls, arguments: Any) -> "Networks":
        """Raises ValueError."""
        user, _, password = arguments.mqtt_login.partition(":")
        return cls(
            http=_address("--http", arguments.http),
            mqtt=_address("--mqtt", arguments.mqtt),
            login=(user, password),
            topic=arguments.topic,
            candump=Path(arguments.candump) if arguments.candump else None,
        )


class Services:
    """Those of one start of an application; they begin once it has joined its networks, if nothing resets it before."""

    def __init__(
        self,
        loop: Loop,
        networks: Networks,
        faults: Faults,
        application: AppDescription | None,
        equipment: Mapping[str, str],
        at: float,
    ) -> None:
        self._loop = loop
        self._networks = networks
        self._faults = faults
        self._project = application.project if application else ""
        self._version = application.version if application else ""
        self._equipment = dict(equipment)
        self._battery = Battery()
        self._began = at
        self._running: list[Service] = []
        self._timer: Timer = loop.at(at + JOIN_TIME, self._join)

    def close(self) -> None:
        self._timer.cancel()
        for service in self._running:
            service.close()
        self._running = []

    def _join(self, due: float) -> None:
        networks = self._networks
        if networks.http and not self._strikes("web_down"):
            self._running.append(WebServer(self._loop, networks.http, self._project, self._status))
        if networks.mqtt and not self._strikes("mqtt_silent"):
            account = Account(networks.mqtt, networks.topic, networks.topic, *networks.login)
            self._running.append(MqttClient(self._loop, account, self._battery.telemetry, due))
        if networks.candump:
            silent = self._faults.take_boot_fault("can_silent", self._version)
            scale = 10.0 if self._strikes("can_off_scale") else 1.0
            frames = [(i, data) for i, data in self._battery.frames(scale) if not silent or f"{i:03X}" != silent.text]
            self._running.append(CanLog(self._loop, networks.candump, frames, due))

    def _strikes(self, kind: str) -> bool:
        return self._faults.take_boot(kind, self._version)

    def _status(self) -> dict[str, Any]:
        return {
            "version": self._version,
            "project": self._project,
            "uptime": round(time.monotonic() - self._began, 1),
            "equipment": self._equipment,
            "battery": self._battery.telemetry(),
        }


class CanLog:
    """Sends CAN frames every second, to a file. Source: can-utils, ``candump -L`` (``(seconds) interface ID#DATA``)."""

    def __init__(self, loop: Loop, path: Path, frames: list[tuple[int, bytes]], at: float) -> None:
        self._loop = loop
        self._path = path
        self._frames = frames
        self._timer: Timer = loop.at(at, self._second)

    def close(self) -> None:
        self._timer.cancel()

    def _second(self, due: float) -> None:
        # The time of the frame is when it was due, on the clock that candump would use.
        now = time.time() - (time.monotonic() - due)
        with self._path.open("a") as log:
            for identifier, data in self._frames:
                log.write(f"({now:.6f}) can0 {identifier:03X}#{data.hex().upper()}\n")
        self._timer = self._loop.at(due + 1.0, self._second)


def _address(option: str, text: str) -> tuple[str, int] | None:
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{option} {text}: expected ADDRESS:PORT, e.g. 127.0.0.1:8080")
    return host, int(port)
