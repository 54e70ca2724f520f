"""What can be done to a board at its control socket: buttons, power, planned faults, and looking at it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fleetflash.lab.boards.boot import Cause
from fleetflash.lab.boards.control import ControlServer, Reply, Request
from fleetflash.lab.boards.faults import BOOT_KINDS, Fault
from fleetflash.lab.boards.loop import Timer

if TYPE_CHECKING:
    from fleetflash.lab.boards.board import Board


class Operator:
    """Turns requests of the control socket into what a person, or fate, would do to the board."""

    def __init__(self, board: "Board") -> None:
        self._board = board
        self._pause_waiters: list[tuple[Reply, Timer]] = []

    def serve(self, path: Path) -> ControlServer:
        return ControlServer(self._board.loop, path, self._control)

    def tell_paused(self) -> None:
        """Answer those who wait for the board to pause."""
        for reply, timer in self._pause_waiters:
            timer.cancel()
            reply({"ok": True, "paused": True})
        self._pause_waiters.clear()

    def _control(self, request: Request, reply: Reply) -> None:
        operation = request.get("op")
        actions: dict[str, Callable[[Request], None]] = {
            "press": lambda _request: self._push(Cause.BUTTON),
            "tap": lambda _request: self._push(Cause.TAP),
            "power": self._power,
            "pause": self._plan_pause,
            "resume": lambda _request: self._board.resume(),
            "fault": self._plan_fault,
            "clear_faults": lambda _request: self._board.faults.clear(),
        }
        if operation == "status":
            reply({"ok": True, **self._board.status()})
        elif operation == "wait_paused":
            self._wait_paused(float(request.get("timeout", 10.0)), reply)
        elif isinstance(operation, str) and operation in actions:
            actions[operation](request)
            reply({"ok": True})
        else:
            known = ", ".join(["status", "wait_paused", *actions])
            raise ValueError(f"unknown op {operation!r}; known: {known}")

    def _push(self, cause: Cause) -> None:
        """The reset button alone (``TAP``), or with whatever this board has for entering its bootloader."""
        if not self._board.powered:
            raise ValueError("the board is off")
        if self._board.reset_pin.holding:
            raise ValueError("a modem line holds the board in reset")
        self._board.start(cause, time.monotonic())

    def _power(self, request: Request) -> None:
        wanted = request["on"]
        if not isinstance(wanted, bool):
            raise ValueError("power needs on: true or false")
        if wanted and not self._board.powered:
            self._board.power_on()
        elif not wanted and self._board.powered:
            self._board.power_off()

    def _plan_pause(self, request: Request) -> None:
        count = request.get("count", 1)
        self._board.faults.add(Fault("pause", command=request["command"], byte=request.get("byte"), count=count))

    def _plan_fault(self, request: Request) -> None:
        self._board.faults.add(_fault(request))

    def _wait_paused(self, timeout: float, reply: Reply) -> None:
        if self._board.paused:
            reply({"ok": True, "paused": True})
            return

        def give_up(_due: float) -> None:
            self._pause_waiters.remove(waiter)
            reply({"ok": True, "paused": False})

        waiter = (reply, self._board.loop.at(time.monotonic() + timeout, give_up))
        self._pause_waiters.append(waiter)


def _fault(request: Request) -> Fault:
    known = ("command", "byte", "count", "status", "version", "text")
    fields = {key: request[key] for key in known if key in request}
    kind = request["kind"]
    if kind not in BOOT_KINDS and not fields.get("command"):
        raise ValueError(f"fault {kind} needs a command")
    return Fault(kind, **fields, then=tuple(_fault(fault) for fault in request.get("then", ())))
