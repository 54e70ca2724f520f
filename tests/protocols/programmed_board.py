"""A simulated board at the end of the agent's own port, as a transaction describes it.

The board is a process that shares no code with the programmers.
"""

import hashlib
import time
from typing import Any

from board_process import DTR, PARENB, PARODD, RTS, TCSETS, TIOCMGET, TIOCMSET, BoardProcess

from fleetflash.agent.board import BoardOnPort
from fleetflash.agent.ports import SerialPort
from fleetflash.agent.schema import BoardTransaction, Entry, Firmware, Image

PARITY_FLAGS = {"N": 0, "E": PARENB, "O": PARENB | PARODD}


class WiredPort(SerialPort):
    """The agent's own port; what a pseudo-terminal lacks goes another way: DTR, RTS and parity."""

    board: BoardProcess | None = None

    def attach(self, board: BoardProcess) -> "WiredPort":
        """From now on as an adapter that was opened by the agent: 8N1, DTR and RTS asserted."""
        self.board = board
        self.set_parity("N")
        self.set_lines(True, True)
        return self

    def set_lines(self, dtr: bool | None, rts: bool | None) -> None:
        if self.board is None:
            return
        bits = self.board.lines(TIOCMGET)
        for bit, level in ((DTR, dtr), (RTS, rts)):
            bits = bits if level is None else bits | bit if level else bits & ~bit
        self.board.lines(TIOCMSET, bits)

    def set_parity(self, parity: str) -> None:
        super().set_parity(parity)
        if self.board is not None:
            self.board.lines(TCSETS, PARITY_FLAGS[parity])


def open_port(board: BoardProcess, device: str = "", baud: int = 115200) -> WiredPort:
    return WiredPort.open(device or str(board.tty), baud).attach(board)


def described(board: BoardProcess, image: bytes, **fields: Any) -> BoardOnPort:
    """The board as a transaction that is to write ``image`` describes it; ``fields`` are those of its kind."""
    wanted = Image("a", hashlib.sha256(image).hexdigest(), len(image), "v2")
    shared: dict[str, Any] = {
        "name": "board",
        "port": str(board.tty),
        "device": str(board.tty),
        "entry": Entry("lines"),
        "expected": Firmware("identify", "v1"),
        "wanted": wanted,
        "way_back": None,
    }
    transaction = BoardTransaction(**{**shared, **fields})
    return BoardOnPort(transaction, lambda device, baud: open_port(board, device, baud))


def nobody(gesture: str, seconds: float) -> None:
    raise AssertionError(f"nobody is asked to {gesture}")


def ignore(done: int, total: int) -> None:
    pass


def flash(board: BoardOnPort, image: bytes, uid: str = "") -> None:
    """As a transaction does it, from the way in to the reset."""
    with board.in_bootloader(nobody, uid) as session:
        session.unprotect_if_asked(nobody)
        session.write(image, lambda phase: ignore)
        session.programmer.reset()


def backup(board: BoardOnPort) -> bytes:
    with board.in_bootloader(nobody, "") as session:
        data = session.programmer.read(ignore)
        session.programmer.reset()
    return data


def running(board: BoardOnPort) -> str:
    """What the board itself says that it runs; empty when it says nothing."""
    return board.identify(250000).version


def settle() -> None:
    """A board that was plugged in needs a moment to start."""
    time.sleep(0.05)
