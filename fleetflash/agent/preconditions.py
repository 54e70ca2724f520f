"""Is the host still as the plan saw it? Asked before anything is touched; every answer but yes is a refusal."""

from typing import List

from fleetflash.agent import backup_command, connections, devices, klippy, power_supply, systemd
from fleetflash.agent.holds import Holds
from fleetflash.agent.ports import holders
from fleetflash.agent.protocols.programmers import PROGRAMMERS
from fleetflash.agent.schema import BoardTransaction, PortFacts, Transaction
from fleetflash.agent.store import Store, StoreError
from fleetflash.agent.tools import environment

#: What klippy says of a printer that may be stopped.
IDLE_STATES = ("standby", "complete", "cancelled", "error")


class RefusalError(Exception):
    """The host isn't as the plan saw it; nothing was touched."""


def check_host(transaction: Transaction, store: Store) -> None:
    """Raise ``RefusalError`` when service, ports, images or holds are not those of the plan."""
    if held := Holds(store).contradicts(transaction):
        raise RefusalError(f"{held}; run again")
    facts = systemd.show(transaction.service, ["ActiveState", "MainPID"]) if transaction.service else {}
    active = facts.get("ActiveState") in systemd.ACTIVE_STATES
    if active != transaction.was_active:
        now, then = ("active", "stopped") if active else ("stopped", "active")
        raise RefusalError(f"{transaction.service} is {now}, but it was {then} when the plan was made; run again")
    ports = devices.list_ports({})
    for board in transaction.boards:
        _check_port(board, ports, int(facts.get("MainPID") or 0))
        if not transaction.backup_only:
            _check_images(board, store)
            _check_backup_command(board)
        _check_power(board)
        _check_tool(board)


def check_printer(transaction: Transaction) -> None:
    """Ask klippy whether it prints, and whether its boards still run what the plan saw; raise ``RefusalError``."""
    if not transaction.was_active:
        return
    try:
        status = klippy.status(transaction.socket)
    except klippy.KlippyError as error:
        if not transaction.was_ready:
            return  # it was in error and can't print
        raise RefusalError(f"klippy no longer answers, so it may be printing: {error}") from error
    if status.prints:
        raise RefusalError(f"a print has begun since the plan was made (state {status.print_state}); run again later")
    if status.state == "ready" and status.print_state not in IDLE_STATES:
        raise RefusalError(f"klippy doesn't say whether it is printing (state {status.print_state!r}); run again")
    for board in transaction.boards:
        found = status.mcus.get(board.klippy_mcu or "")
        if found and found.version and board.expected.version and found.version != board.expected.version:
            raise RefusalError(f"{board.name}: runs {found.version}, the plan saw {board.expected.version}; run again")


def _check_port(board: BoardTransaction, ports: List[PortFacts], klippy_pid: int) -> None:
    can = PROGRAMMERS[board.programmer].capabilities
    found = connections.locate(can.connection, board.port, ports, can.moves, board.by_path)
    if found != [board.device]:
        now = " and ".join(found) or "absent"
        raise RefusalError(f"{board.name}: {board.port} now is {now}, the plan saw {board.device}; run again")
    other = connections.CONNECTIONS.get(can.connection)
    for pid, command in other.holders(board.device) if other else holders(board.device):
        if pid != klippy_pid:
            raise RefusalError(f"{board.name}: {board.device} is held by process {pid} ({command}); end it")


def _check_tool(board: BoardTransaction) -> None:
    """The plan's snapshot looked with the eyes of the login; the tool runs as root."""
    if not board.tool or board.lends_tool:
        return
    try:
        environment.find()
    except environment.ToolError as error:
        raise RefusalError(f"{board.name}: {error}; nothing was stopped") from error


def _check_backup_command(board: BoardTransaction) -> None:
    missing = backup_command.why_missing(board)
    if missing:
        raise RefusalError(f"{missing}; nothing was stopped")


def _check_power(board: BoardTransaction) -> None:
    """At night, with a dead board, is no time to find out that its power was misspelt."""
    unusable = power_supply.why_unusable(board)
    if unusable:
        raise RefusalError(f"{unusable}; nothing was stopped")


def _check_images(board: BoardTransaction, store: Store) -> None:
    for image in [board.wanted, *([board.way_back] if board.way_back else [])]:
        if image.size > board.flash_size:
            what = f"{image.version} has {image.size} bytes, {board.chip} has {board.flash_size} bytes of flash"
            raise RefusalError(f"{board.name}: {what}; nothing was stopped")
        if image is board.wanted and not board.host_writes:
            continue
        try:
            store.read_image(image.sha256)
        except (StoreError, OSError) as error:
            raise RefusalError(f"{board.name}: {error}; nothing was stopped") from error
