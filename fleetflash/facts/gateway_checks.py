"""Whether the gateways of a host do their work, against the checks that the inventory has for them."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from fleetflash.boards import Board
from fleetflash.facts.decision import transport
from fleetflash.functional.can_capture import Capture
from fleetflash.verification.check import Check


def check_gateways(
    host: Any, boards: Iterable[Board], keep: Callable[[str, Capture], None] = lambda _board, _capture: None
) -> list[Check]:
    """Ask every gateway of a pyinfra host that has checks; the host itself need not be connected for most of them.

    + keep: takes the frames that were judged, with the board's name
    """
    from fleetflash.functional.gateway import check_gateway  # its libraries for buses and brokers take their time

    return [
        check
        for board in boards
        if board.checks
        for check in check_gateway(host.name, board, partial(transport, host), partial(keep, board.name))
    ]
