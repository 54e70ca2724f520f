"""Whether a board is the one that the inventory means, and nothing else has it."""

from collections.abc import Iterable

from fleetflash.agent.schema import BoardFacts, Snapshot
from fleetflash.boards import PROGRAMMERS, Board, KlipperHost
from fleetflash.firmware.chips import Chip, mcu_fits
from fleetflash.plan.observation import can_tell_uid, expected_uid


def board_problem(
    board: Board, desired: KlipperHost, target: Chip, facts: BoardFacts, observed: Snapshot, shared: dict[str, str]
) -> str:
    """Say why a board must not be touched: it is not, or may not be, the one that the inventory means."""
    if not target.bootloader_ids(board.programmer):
        return f"{board.programmer} can't write {target.name}; correct the board's chip or programmer"
    if attention := observed.needs_attention.get(board.name):
        return (
            f"needs attention since an earlier run: {attention}. Put it right, then: "
            f"fleetflash board clear INVENTORY {desired.name} {board.name}"
        )
    problem = _port_problem(board, facts, observed, shared) or _identity_problem(board, facts, observed)
    return problem or _chip_problem(board, target, facts)


def _port_problem(board: Board, facts: BoardFacts, observed: Snapshot, shared: dict[str, str]) -> str:
    if not facts.candidates and PROGRAMMERS[board.programmer].connection != "serial":
        return f"port {board.port}: {facts.firmware.error}"
    if not facts.candidates:
        there = ", ".join(link for port in observed.ports for link in port.by_path or [port.device]) or "no serial port"
        return f"port {board.port} is not there; the host has {there}"
    if len(facts.candidates) > 1:
        paths = " and ".join(_describe(device, observed) for device in facts.candidates)
        return f"port {board.port} is ambiguous: {paths} answer to it; use the by-path name"
    if facts.device in shared and shared[facts.device] != board.name:
        return f"port {board.port} is {facts.device}, which board {shared[facts.device]} already claims"
    if facts.klippy_device and facts.klippy_device != facts.device:
        return (
            f"klippy's {board.klippy_mcu} is on {facts.klippy_device}, but port {board.port} is {facts.device}; "
            "correct klippy_mcu or port in the inventory"
        )
    for port in observed.ports:
        if port.device != facts.device:
            continue
        for holder in port.holders:
            if holder.pid != observed.service.main_pid:
                return f"{port.device} is held by process {holder.pid} ({holder.command}); end it, then run again"
    return ""


def _identity_problem(board: Board, facts: BoardFacts, observed: Snapshot) -> str:
    """Say what contradicts that this is the board which was met before, as far as nobody has to open its port."""
    ledger, expected = facts.ledger, expected_uid(board, facts, observed)
    if board.uid and not can_tell_uid(board, facts, observed):
        return (
            f"{board.programmer} learns a unique id from USB, but port {board.port} is {facts.device}, a UART, so none "
            f"can be compared with uid = {board.uid!r}; leave it out"
        )
    if expected and facts.uid and facts.uid != expected and PROGRAMMERS[board.programmer].moves:
        return (
            f"port {board.port} is the board with unique id {facts.uid}, expected {expected}; correct the port, or, if "
            f"the board was replaced, set uid = {facts.uid!r} for it in the inventory"
        )
    if PROGRAMMERS[board.programmer].connection != "serial":
        return ""  # its port names the place, or the board itself
    places = [link for port in observed.ports if port.device == facts.device for link in port.by_path]
    met = ledger.by_path if ledger else ""
    if expected or not met or not places or met in places or "/by-path/" in board.port:
        return ""
    return (
        f"port {board.port} is at {places[0]}, but the board was met at {met}, and no unique id is known that could "
        f"tell whether it is the same; if it is, or was replaced, name its port {places[0]} in the inventory"
    )


def _chip_problem(board: Board, target: Chip, facts: BoardFacts) -> str:
    mcu = facts.firmware.constants.get("MCU")
    if mcu and not mcu_fits(str(mcu), target):
        return (
            f"the board on {facts.device} runs firmware for {mcu}, but the inventory says {target.name}; "
            "correct the board's chip or port"
        )
    return ""


def boards_on_one_device(boards: Iterable[Board], observed: Snapshot) -> dict[str, str]:
    """Return device → the first board that claims it."""
    claimed: dict[str, str] = {}
    for board in boards:
        device = observed.boards[board.name].device
        if device:
            claimed.setdefault(device, board.name)
    return claimed


def _describe(device: str, observed: Snapshot) -> str:
    paths = [link for port in observed.ports if port.device == device for link in port.by_path]
    return f"{device} ({paths[0]})" if paths else device
