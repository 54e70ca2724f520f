"""Policy exact with a pinned Klipper: what is decided about host code and boards, from pin to table."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from klipper_checkout import make_checkout
from observed import NEW, board, facts, firmware, ledger, service, snapshot
from observed import plan as plan_boards

from fleetflash.agent import checkout_facts, klippy, systemd
from fleetflash.agent.account import Account
from fleetflash.agent.schema import HOST_CODE, CheckoutFacts, CheckoutProbe, ServiceFacts
from fleetflash.boards import BoardDataError, KlipperCode, KlipperHost, read_host
from fleetflash.build.bundle import make_bundle
from fleetflash.facts import host_code as code_facts
from fleetflash.operations import mcu
from fleetflash.plan import Action, Catalogue, HostPlan, Identity, WantedCode, plan_host
from fleetflash.report.rows import outcome_rows, plan_rows
from fleetflash.report.table import totals

OLD_COMMIT, COMMIT = "1" * 40, "2" * 40
WANTED = WantedCode("klipper.git", COMMIT, "v2-0-g2222222", Path("/mirror"))
CHECKOUT = CheckoutFacts("/home/pi/klipper", "pi", OLD_COMMIT, "v1-0-g1111111", "main", running="v1-0-g1111111")
CURRENT = dataclasses.replace(CHECKOUT, commit=COMMIT, version="v2-0-g2222222", running="v2-0-g2222222")
CURRENT_BOARD = facts(firmware=firmware("v2"), ledger=ledger(NEW))


def plan(checkout: CheckoutFacts | None, *boards: Any, wanted: WantedCode = WANTED, **observed: Any) -> HostPlan:
    """Plan a printer with one board that shall run v2, and its code."""
    resolve = lambda name, version, chip: NEW  # noqa: E731
    desired = KlipperHost("printer", (board(),), policy="exact", code=KlipperCode("v2", "klipper.git"))
    seen = dataclasses.replace(snapshot(*boards), checkout=checkout, **observed)
    artifacts = plan_boards().artifacts.values()
    return plan_host(desired, seen, Catalogue(list(artifacts), resolve), Identity("t", "me"), code=wanted)


def code_of(found: HostPlan) -> "tuple[Action, str]":
    return next((board.action, board.reason) for board in found.boards if board.name == HOST_CODE)


# The plan


def test_code_and_boards_are_one_transaction() -> None:
    found = plan(CHECKOUT)
    assert [(b.name, b.action) for b in found.boards] == [(HOST_CODE, Action.FLASH), ("bmcu", Action.FLASH)]
    assert found.transaction is not None and found.transaction.host_code is not None
    assert [b.name for b in found.transaction.boards] == ["bmcu"]
    code = found.transaction.host_code
    assert (code.path, code.user, code.former, code.wanted) == ("/home/pi/klipper", "pi", OLD_COMMIT, COMMIT)
    assert code.bundle is None


def test_nothing_is_done_when_code_and_boards_are_current() -> None:
    found = plan(CURRENT, CURRENT_BOARD)
    assert found.transaction is None and {b.action for b in found.boards} == {Action.NONE}


def test_code_alone_moves_when_the_boards_are_current() -> None:
    found = plan(CHECKOUT, CURRENT_BOARD)
    assert found.transaction is not None and found.transaction.boards == []
    assert found.transaction.host_code is not None


def test_boards_alone_move_when_the_code_is_current() -> None:
    found = plan(CURRENT)
    assert found.transaction is not None and found.transaction.host_code is None


def test_klippy_that_still_runs_what_was_there_before_is_restarted() -> None:
    pulled = dataclasses.replace(CURRENT, running="v1-0-g1111111")
    found = plan(pulled, CURRENT_BOARD)
    assert code_of(found) == (Action.FLASH, "klippy still runs v1-0-g1111111")


@pytest.mark.parametrize(
    ("checkout", "wanted", "words"),
    [
        ({"dirty": ["a", "b", "c", "d"]}, {}, "uncommitted changes (a, b, c and 1 more)"),
        ({}, {"foreign": True}, "is at v1-0-g1111111, which klipper.git does not have"),
        ({"error": "/home/pi/klipper is no git checkout"}, {}, "is no git checkout"),
        ({}, {"problem": "klipper_version: no such tag"}, "no such tag"),
    ],
)
def test_code_that_can_not_be_moved_holds_its_boards(
    checkout: dict[str, Any], wanted: dict[str, Any], words: str
) -> None:
    found = plan(dataclasses.replace(CHECKOUT, **checkout), wanted=dataclasses.replace(WANTED, **wanted))
    assert found.transaction is None
    assert code_of(found)[0] is Action.REFUSE and words in code_of(found)[1]
    assert [b.reason for b in found.boards[1:]] == ["policy exact: the host code can't be moved"]


def test_uncommitted_changes_are_refused_at_the_wanted_commit_too() -> None:
    """klippy would report itself as dirty, and the next move would be refused."""
    assert code_of(plan(dataclasses.replace(CURRENT, dirty=["klippy/mcu.py"])))[0] is Action.REFUSE


def test_code_stays_when_a_board_is_refused() -> None:
    found = plan(CHECKOUT, facts(device="", candidates=[]))
    assert code_of(found) == (Action.REFUSE, "policy exact: its neighbour bmcu can't be flashed")


def test_code_waits_for_a_print() -> None:
    found = plan(CHECKOUT, CURRENT_BOARD, service=service(print_state="printing"))
    assert code_of(found)[0] is Action.DEFER and found.transaction is None


def test_code_that_needs_attention_is_refused_until_cleared() -> None:
    found = plan(CHECKOUT, needs_attention={HOST_CODE: "input/output error"})
    assert code_of(found)[0] is Action.REFUSE
    assert "fleetflash board clear INVENTORY printer 'host code'" in code_of(found)[1]


def test_host_without_a_checkout_to_look_at_is_refused() -> None:
    assert code_of(plan(None))[0] is Action.REFUSE


# The table


def test_code_has_a_row_and_is_no_board() -> None:
    rows = plan_rows(plan(CHECKOUT))
    assert (rows[0].board, rows[0].running, rows[0].wanted) == (HOST_CODE, "v1-0-g1111111", "v2-0-g2222222")
    assert rows[0].way_back == "v1-0-g1111111 (checkout)" and rows[0].image == COMMIT[:12]
    assert totals(rows).startswith("1 board: 1 to flash · host code: 1 to flash")


def test_code_that_went_back_is_told_with_its_former_version() -> None:
    results = {HOST_CODE: {"result": "restored", "detail": "why"}, "bmcu": {"result": "restored", "detail": ""}}
    rows = outcome_rows(plan(CHECKOUT), {"outcome": "restored", "detail": "", "boards": results})
    assert (rows[0].outcome, rows[0].running, rows[0].detail) == ("restored", "v1-0-g1111111", "why")


# The inventory


def code(**data: Any) -> KlipperCode | None:
    return read_host("printer", {"boards": {}, "policy": "exact", **data}).code


def test_pin_is_read_with_policy_exact_only() -> None:
    assert code() is None
    assert code(klipper_version="v2", policy="compatible") is None
    assert code(klipper_version="v2", klipper_service=None) is None
    found = code(klipper_version="v2", klipper_repository="/srv/klipper.git", klipper_path="~/klipper-2")
    assert found == KlipperCode("v2", "/srv/klipper.git", "~/klipper-2")


def test_pin_of_the_provisioning_is_taken_and_may_not_differ() -> None:
    provisioned = {"ref": "v2", "repository": "/srv/klipper.git"}
    assert code(klipper=provisioned) == KlipperCode("v2", "/srv/klipper.git")
    with pytest.raises(BoardDataError, match="klipper_version is 'v3', but klipper\\['ref'\\] is 'v2'"):
        code(klipper=provisioned, klipper_version="v3")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"klipper_version": 0.12}, "klipper_version: expected text, found 0.12; quote it exactly as it was written"),
        ({"klipper_version": 0}, "expected text, found 0"),
        ({"klipper_version": "--upload-pack=x"}, "expected a tag or a commit"),
        ({"klipper_version": "v1 v2"}, "expected a tag or a commit"),
        ({"klipper_version": "v1", "klipper_path": "klipper"}, "klipper_path: expected an absolute path"),
        ({"klipper_version": "v1", "klipper_repository": 7}, "klipper_repository: expected a URL or a path"),
    ],
)
def test_pin_that_can_not_be_is_refused_in_one_line(data: dict[str, Any], words: str) -> None:
    with pytest.raises(BoardDataError) as refusal:
        code(**data)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


# The controller's mirror


def test_wanted_commit_comes_with_what_the_host_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETFLASH_BUILD_CACHE", str(tmp_path / "cache"))
    repository = make_checkout(tmp_path / "klipper")
    wanted = code_facts.wanted_code(KlipperCode("v2", str(repository.path)))
    assert (wanted.commit, wanted.problem) == (repository.v2, "") and wanted.version.startswith("v2-0-g")
    at_v1 = dataclasses.replace(CHECKOUT, commit=repository.v1)
    assert code_facts.compared(wanted, at_v1) == wanted
    assert code_facts.compared(wanted, dataclasses.replace(at_v1, present=True)).present
    assert code_facts.compared(wanted, dataclasses.replace(at_v1, commit="3" * 40)).foreign
    elsewhere = code_facts.wanted_code(KlipperCode("v2", str(repository.path)), str(tmp_path / "own"))
    assert elsewhere.mirror.parent == tmp_path / "own/mirrors"
    assert "no commit, tag or branch" in code_facts.wanted_code(KlipperCode("v9", str(repository.path))).problem

    found = plan(at_v1, CURRENT_BOARD, wanted=wanted)
    assert found.transaction is not None
    bundled: dict[str, bytes] = {}
    with_commits = mcu._with_commits(found.transaction, found, bundled)
    assert with_commits.host_code is not None and with_commits.host_code.bundle is not None
    assert list(bundled) == [with_commits.host_code.bundle.sha256] and with_commits.host_code.bundle.tag == "v2"
    there = plan(at_v1, CURRENT_BOARD, wanted=dataclasses.replace(wanted, present=True))
    assert there.transaction is not None and mcu._with_commits(there.transaction, there, bundled) == there.transaction


def test_host_that_has_only_later_commits_gets_the_whole_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETFLASH_BUILD_CACHE", str(tmp_path / "cache"))
    repository = make_checkout(tmp_path / "klipper")
    wanted = code_facts.wanted_code(KlipperCode("v1", str(repository.path)))
    code_facts.wanted_code(KlipperCode("v2", str(repository.path)))
    data, tag = make_bundle(wanted.mirror, repository.v1, repository.v2)
    assert tag == "v1" and b"\n-" not in data[: data.index(b"\n\n")]  # it needs nothing that the host has


# The snapshot


@pytest.fixture
def looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    repository = make_checkout(tmp_path / "klipper")
    said = {"ExecStart": "{ path=/home/pi/klippy-env/bin/python ; argv[]=… }"}
    monkeypatch.setattr(systemd, "show", lambda unit, properties: said)
    user = Account.own().entry.pw_name

    def look(status: klippy.Status | None = None, path: str = str(repository.path)) -> CheckoutFacts:
        unit = ServiceFacts("klipper.service", "active", user=user)
        return checkout_facts.look(CheckoutProbe(path, repository.v2), unit, status)

    look.repository = repository  # type: ignore[attr-defined]
    return look


def test_snapshot_tells_where_the_code_is_and_changes_nothing(looked: Any) -> None:
    index = looked.repository.path / ".git/index"
    os.utime(looked.repository.path / "klippy/klippy.py", (0, 0))
    before = index.read_bytes()
    found = looked()
    assert index.read_bytes() == before
    assert found.version == looked.repository.version() and found.version.startswith("v1-0-g")
    assert (found.commit, found.branch, found.dirty) == (looked.repository.v1, "main", [])
    assert found.present and found.python == "/home/pi/klippy-env/bin/python" and found.error == ""
    looked.repository.git("describe", "--dirty", "--always")
    assert index.read_bytes() != before, "git by itself refreshes its index"


def test_snapshot_tells_changes_and_what_klippy_says_of_itself(looked: Any) -> None:
    looked.repository.write("klippy/klippy.py", "print('mine')\n")
    path = str(looked.repository.path)
    found = looked(klippy.Status("ready", version="v0", path=path, python="/usr/bin/python3"))
    assert (found.running, found.python, found.dirty) == ("v0", "/usr/bin/python3", ["klippy/klippy.py"])
    assert found.version.endswith("-dirty") and found.error == ""


def test_snapshot_tells_when_klippy_runs_from_somewhere_else(looked: Any) -> None:
    found = looked(klippy.Status("ready", path="/home/pi/kalico"))
    assert "is not what klippy runs, which is /home/pi/kalico; correct klipper_path" in found.error


def test_snapshot_tells_what_is_no_checkout(looked: Any, tmp_path: Path) -> None:
    assert "is not there" in looked(path=str(tmp_path / "nowhere")).error
    assert "is no git checkout" in looked(path=str(tmp_path)).error
