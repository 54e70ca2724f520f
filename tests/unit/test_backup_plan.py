"""What a backup takes: boards that can be read are, others are told of with what is known of them."""

from typing import Any

import pytest

from fleetflash.agent.schema import UNFINISHED, Firmware, LedgerEntry, Snapshot
from fleetflash.boards import PROGRAMMERS, Board, KlipperHost
from fleetflash.firmware.artifact import Artifact
from fleetflash.plan import Action, BoardPlan, Catalogue, HostPlan, Identity, plan_backup
from tests.unit.observed import CONSTANTS, OLD, board, facts, firmware, hold, service, snapshot

STM32: dict[str, Any] = {"chip": "stm32f103xb", "programmer": "stm32_rom"}
MCU = {"MCU": "stm32f103xe"}


def no_artifact(name: str, version: object, chip: str) -> Artifact:
    raise AssertionError("a backup needs no image")


def plan(*boards: Board, observed: Snapshot | None = None, reason: str = "", **host: Any) -> HostPlan:
    seen = observed or snapshot(*(facts(b.name, f"/dev/{b.name}", firmware=firmware(**told(b))) for b in boards))
    catalogue = Catalogue((OLD,), no_artifact)
    return plan_backup(KlipperHost("printer", boards, **host), seen, catalogue, Identity("t1", "me", now=7.0), reason)


def told(b: Board) -> dict[str, Any]:
    return MCU if b.chip == STM32["chip"] else CONSTANTS


def only(found: HostPlan) -> BoardPlan:
    assert len(found.boards) == 1
    return found.boards[0]


def test_board_that_can_be_read_is_and_must_then_run_what_it_runs() -> None:
    found = plan(board(**STM32), reason="a new hotend")
    assert only(found).action is Action.BACK_UP and (only(found).seconds or 0) > 5
    assert found.transaction is not None and (found.downtime or 0) > (only(found).seconds or 0)
    whole, (described,) = found.transaction, found.transaction.boards
    assert (whole.backup_only, whole.reason, whole.started_at, whole.policy) == (
        True,
        "a new hotend",
        7.0,
        "compatible",
    )
    assert (whole.was_active, whole.was_ready, whole.host_code) == (True, True, None)
    assert described.read_back and described.way_back is None
    assert (described.wanted.version, described.wanted.build_versions) == ("v1", "gcc")
    assert described.wanted.constants["MCU"] == "stm32f103xe" and described.wanted.klipper
    assert (described.wanted.sha256, described.flash_size) == ("", 128 * 1024)


def test_pin_that_nothing_resolves_keeps_nobody_from_a_backup() -> None:
    assert only(plan(board(**STM32, firmware_version="nobody has it"))).action is Action.BACK_UP


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "wch_isp can't read ch32v203c8t6 back; known good is v1 (running)"),
        ({**STM32, "unprotect": True}, "its chip is said to be read-protected (unprotect = True); no known-good"),
    ],
)
def test_board_that_can_not_be_read_is_told_with_what_is_known_of_it(fields: dict[str, Any], why: str) -> None:
    found = plan(board(**fields))
    assert only(found).action is Action.UNREADABLE and why in only(found).reason
    assert only(found).backup == ("none" if fields else "known-good only")
    assert found.transaction is None and found.downtime is None


def test_what_an_interrupted_write_has_left_is_no_backup() -> None:
    ledger = LedgerEntry("", UNFINISHED, "", "t0")
    seen = snapshot(facts(firmware=firmware(**MCU), ledger=ledger))
    found = only(plan(board(**STM32), observed=seen))
    assert found.action is Action.UNREADABLE and "an earlier write was interrupted" in found.reason


def test_board_that_may_be_another_one_is_refused_and_its_neighbour_read() -> None:
    seen = snapshot(facts("a", firmware=firmware()), facts("b", "/dev/b", firmware=firmware(**MCU)))
    a, b = plan(board("a", **STM32), board("b", klippy_mcu="b", **STM32), observed=seen).boards
    assert (a.action, b.action) == (Action.REFUSE, Action.BACK_UP) and "runs firmware for ch32v203c8" in a.reason


def test_board_that_needs_attention_is_not_read() -> None:
    seen = snapshot(facts(firmware=firmware(**MCU)), needs_attention={"bmcu": "verify failed"})
    found = only(plan(board(**STM32), observed=seen))
    assert found.action is Action.REFUSE and "fleetflash board clear INVENTORY printer bmcu" in found.reason


def test_button_waits_for_a_person() -> None:
    assert only(plan(board(**STM32, entry="button"))).action is Action.WAITING
    attended = plan(board(**STM32, entry="button"), attended=True)
    assert only(attended).action is Action.BACK_UP
    assert attended.transaction is not None and attended.transaction.restore_seconds > 120


@pytest.mark.parametrize(
    ("fields", "action", "why"),
    [
        ({"service": service(print_state="printing")}, Action.DEFER, "printing"),
        ({"service": service(klippy="")}, Action.REFUSE, "can't tell whether the printer is printing"),
        ({"sudo": "user pi may not"}, Action.REFUSE, "user pi may not"),
        ({"disk_free": (64 << 20) + 1000}, Action.REFUSE, "make room"),
    ],
)
def test_host_that_must_not_be_stopped_is_not(fields: dict[str, Any], action: Action, why: str) -> None:
    found = plan(board(**STM32), observed=snapshot(facts(firmware=firmware(**MCU)), **fields))
    assert (only(found).action, found.transaction) == (action, None) and why in only(found).reason


def test_gateway_that_says_nothing_is_not_asked_afterwards() -> None:
    gateway = board(
        chip="esp32", programmer="esptool", klippy_mcu=None, entry=PROGRAMMERS["esptool"].entries[0], baud=115200
    )
    silent = Firmware("unasked", error="only a reset would have it say what it runs")
    seen = snapshot(facts(firmware=silent), service=service(unit="", active="none", klippy=""))
    found = plan(gateway, observed=seen, service="")
    assert found.transaction is not None and not found.transaction.boards[0].wanted.klipper
    assert not found.transaction.was_active and found.downtime is None


def test_backups_of_what_a_board_is_held_at_are_kept() -> None:
    seen = snapshot(facts("bmcu", "/dev/bmcu", firmware=firmware(**MCU)), holds={"bmcu": hold(OLD)})
    found = plan(board(**STM32), observed=seen).transaction
    assert found is not None and found.retention.pins == [f"sha256:{OLD.image_sha256}", "v1"]
