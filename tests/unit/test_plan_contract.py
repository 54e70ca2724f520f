"""The contract of a gateway goes with its transaction; one that can't be used keeps it from being written."""

from pathlib import Path

import pytest

from fleetflash.acceptance.board_contracts import read_contracts
from fleetflash.agent.acceptance.contract import Contract
from fleetflash.agent.schema import Firmware, LedgerEntry, Transaction, from_json, to_json
from fleetflash.boards import Board
from fleetflash.plan import Action, HostPlan
from tests.unit.boot_logs import CONTRACT
from tests.unit.observed import board, facts, gateway_artifact, plan, snapshot

BUILDS = (gateway_artifact("v1", "factory"), gateway_artifact("v2"))
SILENT = Firmware("unasked", error="only a reset would have it say what it runs")


def gateway(**fields: object) -> Board:
    described = {"chip": "esp32", "programmer": "esptool", "firmware": "gateway", "contract": str(CONTRACT)}
    return board("gateway", **{**described, **fields})


def planned(wanted: Board, ledger: LedgerEntry | None = None) -> HostPlan:
    observed = snapshot(facts("gateway", firmware=SILENT, ledger=ledger))
    return plan(observed, wanted, artifacts=BUILDS, contracts=read_contracts([wanted]))


def test_the_transaction_carries_the_contract_and_the_equipment() -> None:
    found = planned(gateway(equipment={"sd": "yes"}))
    assert found.transaction is not None
    (written,) = found.transaction.boards
    assert isinstance(written.contract, Contract) and written.contract.file == CONTRACT.name
    assert written.equipment == {"sd": "yes"}
    assert from_json(Transaction, to_json(found.transaction)) == found.transaction


def test_the_settle_window_is_part_of_what_is_expected_to_take_time() -> None:
    judged, unjudged = (planned(gateway(contract=contract)).boards[0].seconds for contract in (str(CONTRACT), ""))
    assert judged is not None and unjudged is not None
    assert judged == pytest.approx(unjudged + 5.0)
    both = [planned(gateway(contract=contract)).transaction for contract in (str(CONTRACT), "")]
    assert both[0] is not None and both[1] is not None
    # A way back that is rejected is heard out: 20 s, and the window.
    assert both[0].restore_seconds - both[1].restore_seconds >= 25.0


def test_a_contract_that_can_not_be_used_refuses_the_board(tmp_path: Path) -> None:
    broken = tmp_path / "boot.yaml"
    broken.write_text("contract: 1\nwithin: soon\n")
    cycled = tmp_path / "cycled.yaml"
    cycled.write_text(CONTRACT.read_text().replace("pause: 2 s", "pause: 2 s\n  recovery: power-cycle"))
    for wanted, words in (
        (gateway(contract=str(broken)), "settle is missing"),
        (gateway(contract=str(tmp_path / "none.yaml")), "none.yaml: No such file"),
        (gateway(equipment={"sd": "maybe"}), "sd = 'maybe': io-expander-sd.yaml expects yes or no"),
        (gateway(contract=str(cycled)), "gateway has no power in the inventory"),
    ):
        found = planned(wanted)
        assert found.transaction is None
        assert (found.boards[0].action, words in found.boards[0].reason) == (Action.REFUSE, True), found.boards[
            0
        ].reason


def test_a_contract_that_cycles_the_power_takes_a_board_whose_power_can_be(tmp_path: Path) -> None:
    cycled = tmp_path / "cycled.yaml"
    cycled.write_text(CONTRACT.read_text().replace("pause: 2 s", "pause: 2 s\n  recovery: power-cycle"))
    found = planned(gateway(contract=str(cycled), equipment={"sd": "yes"}, power={"moonraker": "relay"}))
    assert found.transaction is not None


def test_a_gateway_that_is_current_needs_no_contract(tmp_path: Path) -> None:
    done = LedgerEntry(BUILDS[1].id, BUILDS[1].image_sha256, "v2", "t0", "esp32")
    assert planned(gateway(contract=str(tmp_path / "none.yaml")), done).boards[0].action is Action.NONE
