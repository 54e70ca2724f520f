"""Where a board's protocol runs, on its host or on the controller, and what that costs."""

from fleetflash.agent.schema import Snapshot
from fleetflash.boards import PROGRAMMERS, Board
from fleetflash.plan.model import Identity

#: What one round trip costs beside the port (USB serial adapters poll every millisecond), in seconds.
LOCAL_ROUND_TRIP = 0.001


def choose_placement(board: Board, observed: Snapshot, identity: Identity) -> tuple[str, str]:
    """Return where a board's protocol runs, and why it can't. A tool that the host lacks is the controller's to run."""
    if not PROGRAMMERS[board.programmer].tool:
        return board.placement or "host", ""
    if board.placement == "host" or (board.placement is None and not observed.esptool):
        return "host", observed.esptool
    return "controller", identity.esptool
