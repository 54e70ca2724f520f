"""The one transaction that brings a host's boards to what was decided for them."""

from collections.abc import Sequence

from fleetflash.agent.schema import (
    ELF_SHA256,
    BoardTransaction,
    Entry,
    Hold,
    Image,
    Snapshot,
    Transaction,
    TransactionFacts,
)
from fleetflash.boards import KLIPPER_RESTART_SECONDS, PROGRAMMERS, KlipperHost
from fleetflash.firmware.artifact import Artifact
from fleetflash.plan.hold import kept_for
from fleetflash.plan.host_code import moved_code
from fleetflash.plan.model import Action, BoardPlan, HostPlan, Identity
from fleetflash.plan.placement import LOCAL_ROUND_TRIP
from fleetflash.plan.printer import Printer, printer_state


def with_transaction(
    desired: KlipperHost,
    observed: Snapshot,
    plans: Sequence[BoardPlan],
    identity: Identity,
    holds: dict[str, Hold],
) -> HostPlan:
    """Return the plan of a host: its decisions, and the transaction that writes what they say shall be flashed.

    ``holds``: what a rollback leaves on the host, written with the transaction.
    """
    flashes = [plan for plan in plans if plan.action is Action.FLASH]
    unreported, notes = unheard(observed)
    if not flashes:
        return HostPlan(desired.name, tuple(plans), notes=notes, unreported=unreported, holds=holds)
    service = observed.service
    was_active = printer_state(service) is not Printer.STOPPED
    writing = sum(plan.seconds or 0.0 for plan in flashes)
    by_hand = sum(plan.board.hands_seconds for plan in flashes if plan.board and plan.board.entry == "button")
    by_path = {port.device: port.by_path[0] for port in observed.ports if port.by_path}
    transaction = Transaction(
        id=identity.transaction,
        controller=identity.controller,
        boards=[_written(plan, by_path.get(plan.device, "")) for plan in flashes if plan.code is None],
        service=service.unit,
        socket=service.socket,
        was_active=was_active,
        was_ready=service.klippy == "ready",
        policy=desired.policy,
        restore_seconds=round(sum(map(_restoring, flashes)) + by_hand + KLIPPER_RESTART_SECONDS, 1),
        host_code=moved_code(flashes, observed),
        holds=holds,
        started_at=identity.now,
        retention=kept_for([*observed.holds.values(), *holds.values()], desired.retention),
        checks=list(desired.object_checks),
        checks_seconds=desired.object_checks_seconds,
    )
    artifacts = {}
    for plan in flashes:
        for artifact in (plan.wanted, plan.way_back):
            if artifact is not None:
                artifacts[artifact.image_sha256] = artifact
    return HostPlan(
        host=desired.name,
        boards=tuple(plans),
        transaction=transaction,
        downtime=round(writing + KLIPPER_RESTART_SECONDS, 1) if was_active else None,
        artifacts=artifacts,
        notes=notes,
        unreported=unreported,
        holds=holds,
    )


def _restoring(plan: BoardPlan) -> float:
    """Return what taking a board back may take: its way back may be larger than what was written.

    A former firmware that the contract rejects is heard out to the contract's last deadline.
    """
    writing = plan.seconds or 0.0
    heard = plan.contract.longest if plan.contract else 0.0
    if plan.board is None or plan.way_back is None:
        return writing + heard
    pace = PROGRAMMERS[plan.board.programmer].pace
    return max(writing, round(pace.seconds(plan.way_back.size, LOCAL_ROUND_TRIP), 1)) + heard


def unheard(observed: Snapshot) -> tuple[TransactionFacts | None, tuple[str, ...]]:
    """Return the newest transaction if no controller has followed it to its end, and what to say of it."""
    last = observed.transaction
    found = last if last and last.id and (last.running or not last.reported) else None
    return found, (_story(found),) if found else ()


def _story(transaction: TransactionFacts) -> str:
    """Say what is known of a transaction that no controller has followed to its end."""
    fate = "is running" if transaction.running else f"ended: {transaction.outcome}"
    if not transaction.running and not transaction.outcome:
        fate = "was interrupted; the next run brings it to rest first"
    return f"transaction {transaction.id}, started by {transaction.controller or 'unknown'}, {fate}"


def _written(plan: BoardPlan, by_path: str) -> BoardTransaction:
    if plan.wanted is None:
        raise AssertionError("a board without an image is never planned to be flashed")
    return board_transaction(plan, by_path, plan.image or _image(plan.wanted))


def board_transaction(plan: BoardPlan, by_path: str, wanted: Image) -> BoardTransaction:
    """Return a board's part of a transaction after which it shall run ``wanted``."""
    board, target = plan.board, plan.chip
    if board is None or target is None:
        raise AssertionError("a board without a chip is never planned to be touched")
    return BoardTransaction(
        name=board.name,
        port=board.port,
        device=plan.device,
        chip=target.name,
        chip_ids=list(target.bootloader_ids(board.programmer)),
        flash_size=target.room(board.flash_offset),
        programmer=board.programmer,
        entry=Entry(board.entry, board.wiring, board.gesture, board.hands_seconds),
        expected=plan.running,
        wanted=wanted,
        way_back=_image(plan.way_back) if plan.way_back else None,
        klippy_mcu=board.klippy_mcu,
        uid=plan.uid,
        baud=board.baud,
        placement=plan.placement,
        tool=PROGRAMMERS[board.programmer].tool,
        unprotect=board.unprotect,
        flash_base=target.flash_bases[0],
        flash_offset=board.flash_offset,
        by_path=by_path,
        read_back=plan.way_back_kind == "read-back",
        options=dict(board.options),
        backup_command=board.backup_words,
        backup_seconds=board.backup_seconds,
        contract=plan.contract,
        equipment=dict(board.equipment),
        power=board.power,
        checks=list(board.object_checks),
        erase=list(plan.erase),
    )


def _image(artifact: Artifact) -> Image:
    facts, esp = artifact.klipper, artifact.esp
    return Image(
        artifact=artifact.id,
        sha256=artifact.image_sha256,
        size=artifact.size,
        version=facts.version if facts else artifact.version,
        build_versions=facts.build_versions if facts else "",
        constants=dict(facts.constants) if facts else {ELF_SHA256: esp.elf_sha256} if esp else {},
        klipper=facts is not None,
        esp=esp is not None,
    )
