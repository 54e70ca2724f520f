"""A transaction ends with every board on its new firmware or on its former one, and Klipper as it was found."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from transaction_host import NEW, OLD, Death, FakeHost, FakeProgrammer, content, image, make_host

from fleetflash.agent import disk, guard, klippy, moment, patience, preconditions, systemd, transaction
from fleetflash.agent.backups import Backups, Occasion
from fleetflash.agent.board import Session
from fleetflash.agent.lease import OutOfReachError
from fleetflash.agent.port import PortError
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, RefusedError, VerifyError
from fleetflash.agent.schema import UNFINISHED, Firmware, LedgerEntry, Region
from fleetflash.agent.systemd import SystemdError

MakeHost = Callable[..., FakeHost]
EARLIER = Occasion("t-0", "", 0.0)


@pytest.fixture
def host_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeHost:
    return lambda *names: make_host(tmp_path, monkeypatch, *names)


@pytest.fixture
def host(host_with: MakeHost) -> FakeHost:
    return host_with("a", "b")


def touched(host: FakeHost) -> list[tuple[str, str]]:
    """What was done to Klipper or a board."""
    return [step for step in host.steps if step[0] in ("stop", "start", "open", "enter", "erase", "program", "reset")]


# All goes well


def test_all_boards_are_written_with_klipper_stopped_once_and_entered_into_the_ledger(host: FakeHost) -> None:
    assert host.run(host.transaction()) == "committed"
    assert host.versions() == {"a": NEW, "b": NEW}
    assert [step for step, _ in touched(host) if step in ("stop", "start")] == ["stop", "start"]
    assert host.results() == {"a": "flashed", "b": "flashed"}
    assert host.outcome()["detail"] == ""
    ledger = host.store.ledger("b")
    assert ledger is not None
    assert (ledger.image_sha256, ledger.version, ledger.uid, ledger.chip, ledger.transaction) == (
        image(NEW, "b").sha256,
        NEW,
        host.boards["b"].uid,
        "ch32v203c8t6",
        "t-1",
    )
    assert host.active and host.left_behind() == []


def test_board_is_remembered_with_its_unique_id_and_place_from_the_first_contact_on(host: FakeHost) -> None:
    whole = host.transaction(by_path="/dev/serial/by-path/here", uid="")
    host.kill_on = ("erase", "a")
    with pytest.raises(Death):
        host.run(whole)
    met = host.store.ledger("a")
    assert met is not None and (met.uid, met.by_path) == ("00" * 8, "/dev/serial/by-path/here")
    host.after_death(whole)
    met = host.store.ledger("a")
    assert met is not None and (met.uid, met.by_path) == ("00" * 8, "/dev/serial/by-path/here")


def test_steps_are_journalled_in_the_order_in_which_they_happen(host_with: MakeHost) -> None:
    host = host_with("a")
    host.run(host.transaction())
    steps = [entry["step"] for entry in host.store.journal("t-1").read()]
    assert steps == [
        *("begin", "guarded", "stopping", "stopped", "entering", "writing", "verified"),
        *("starting", "checking", "ready", "committed", "end"),
    ]


def test_klipper_that_was_stopped_stays_stopped_and_each_board_is_asked_itself(host: FakeHost) -> None:
    host.active = host.ready = False
    assert host.run(host.transaction()) == "committed"
    assert host.versions() == {"a": NEW, "b": NEW}
    assert not host.active and ("start", "") not in host.steps
    assert [place for step, place in host.steps if step == "open"] == ["/dev/a", "/dev/a", "/dev/b", "/dev/b"]


def test_klipper_in_error_is_started_but_nobody_waits_for_it(host: FakeHost) -> None:
    """It was not ready before: each board's own word decides."""
    host.ready = False
    assert host.run(host.transaction()) == "committed"
    assert host.active and ("wait", "") not in host.steps


def test_board_that_klippy_does_not_know_is_asked_itself(host_with: MakeHost) -> None:
    host = host_with("a")
    host.faults["open", "/dev/a"] = []
    assert host.run(host.transaction(klippy_mcu=None)) == "committed"
    assert [place for step, place in host.steps if step == "open"] == ["/dev/a", "/dev/a"]


def test_firmware_that_says_nothing_of_itself_is_taken_on_its_verification(host_with: MakeHost) -> None:
    host = host_with("a")
    silent = dataclasses.replace(image(NEW, "a"), klipper=False)
    assert host.run(host.transaction(wanted=silent)) == "committed"
    assert [place for step, place in host.steps if step == "open"] == ["/dev/a"]


# Refused, nothing touched


def print_has_begun(host: FakeHost) -> str:
    host.print_state = "printing"
    return "a print has begun.*printing.*run again later"


def print_is_paused(host: FakeHost) -> str:
    host.print_state = "paused"
    return "a print has begun.*paused"


def print_state_is_unknown(host: FakeHost) -> str:
    host.print_state = ""
    return "doesn't say whether it is printing"


def klipper_was_stopped(host: FakeHost) -> str:
    host.active = False
    return "klipper.service is stopped, but it was active"


def klippy_is_silent(host: FakeHost) -> str:
    def silent(path: str, timeout: float = 5.0) -> klippy.Status:
        raise klippy.KlippyError(f"{path}: no answer in time")

    klippy.status = silent
    return "klippy no longer answers, so it may be printing"


def board_runs_something_else(host: FakeHost) -> str:
    host.said["b"] = Firmware("klippy", "v3")
    return "b: runs v3, the plan saw v1"


def board_is_gone(host: FakeHost) -> str:
    del host.places["b"]
    return "b: /dev/by-path/b now is absent, the plan saw /dev/b"


def board_is_elsewhere(host: FakeHost) -> str:
    host.places["b"] = "/dev/c"
    return "b: /dev/by-path/b now is /dev/c, the plan saw /dev/b"


def port_is_held(host: FakeHost) -> str:
    preconditions.holders = lambda device: [(77, "minicom")] if device == "/dev/b" else []
    return r"b: /dev/b is held by process 77 \(minicom\)"


def way_back_is_not_there(host: FakeHost) -> str:
    host.store.image(image(OLD, "b").sha256).unlink()
    return "b: .*no file; nothing was stopped"


def way_back_is_damaged(host: FakeHost) -> str:
    host.store.image(image(OLD, "b").sha256).write_bytes(b"rot")
    return "b: .*expected sha256.*nothing was stopped"


def image_is_not_there(host: FakeHost) -> str:
    host.store.image(image(NEW, "a").sha256).unlink()
    return "a: .*no file; nothing was stopped"


def systemd_does_not_answer(host: FakeHost) -> str:
    def deaf(unit: str, properties: object) -> dict[str, str]:
        raise SystemdError("systemctl show: no answer within 60 s")

    systemd.show = deaf
    return "systemctl show: no answer"


def guard_can_not_be_raised(host: FakeHost) -> str:
    host.faults["systemctl", ""] = [SystemdError("systemctl daemon-reload: refused")]
    return "daemon-reload: refused"


REFUSALS = [
    print_has_begun,
    print_is_paused,
    print_state_is_unknown,
    klipper_was_stopped,
    klippy_is_silent,
    board_runs_something_else,
    board_is_gone,
    board_is_elsewhere,
    port_is_held,
    way_back_is_not_there,
    way_back_is_damaged,
    image_is_not_there,
    systemd_does_not_answer,
    guard_can_not_be_raised,
]


@pytest.mark.parametrize("changed", REFUSALS, ids=lambda changed: changed.__name__)
def test_host_that_is_not_as_the_plan_saw_it_is_refused_untouched(
    host: FakeHost, changed: Callable[[FakeHost], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((klippy, "status"), (systemd, "show"), (preconditions, "holders")):
        monkeypatch.setattr(module, name, getattr(module, name))  # so that it is put back
    whole = host.transaction()
    words = changed(host)
    assert host.run(whole) == "refused"
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(host.outcome()["detail"])
    assert host.results() == {"a": "untouched", "b": "untouched"}
    assert touched(host) == [] and host.left_behind() == []


def test_print_that_begins_while_the_guard_is_raised_is_seen(host: FakeHost) -> None:
    """A print state is asked for right before the stop, not only before the daemon-reload, which takes a second."""
    whole = host.transaction()
    raised = guard.raise_guard

    def slow(*arguments: Any) -> None:
        raised(*arguments)
        host.print_state = "printing"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "raise_guard", slow)
        assert host.run(whole) == "refused"
    assert touched(host) == [] and host.left_behind() == []


@pytest.mark.parametrize("which", ["wanted", "way_back"])
def test_image_larger_than_the_flash_is_refused_before_klipper_stops(host: FakeHost, which: str) -> None:
    large = dataclasses.replace(image(NEW, "a"), size=65537)
    assert host.run(host.transaction(**{which: large})) == "refused"
    assert "65537 bytes" in host.outcome()["detail"] and touched(host) == []


def test_image_that_the_controller_keeps_need_not_be_on_the_host(
    host_with: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = host_with("a")
    whole = host.transaction(placement="controller")
    host.store.image(image(NEW, "a").sha256).unlink()

    def lend(session: Any, *_: object) -> None:
        session.programmer.write(content(NEW, "a"), lambda done, total: None)

    monkeypatch.setattr(transaction, "lend_port", lend)
    assert host.run(whole) == "committed"


# A step fails


def fail(step: str, error: Exception) -> Callable[[FakeHost], None]:
    def plan(host: FakeHost) -> None:
        host.faults[step, "b"] = [error]

    plan.__name__ = step
    return plan


def another_chip(host: FakeHost) -> None:
    host.boards["b"].chip_id = "19:30"


def another_board(host: FakeHost) -> None:
    host.boards["b"].uid = "beef"


def protected(host: FakeHost) -> None:
    host.boards["b"].protected = True


#: What goes wrong with board b before its flash is touched, and after.
UNTOUCHED_FAILURES = [fail("enter", NoAnswerError("silent")), another_chip, another_board, protected]
FAILURES = [
    fail("erase", RefusedError("refused")),
    fail("program", RefusedError("refused")),
    fail("programming", PortError("unplugged")),
    fail("verify", VerifyError("differs")),
    fail("reset", ProtocolError("garbled")),
]


@pytest.mark.parametrize("policy", ["exact", "compatible"])
@pytest.mark.parametrize("failure", UNTOUCHED_FAILURES, ids=lambda failure: failure.__name__)
def test_board_that_fails_before_it_is_written_runs_on(
    host: FakeHost, failure: Callable[[FakeHost], None], policy: str
) -> None:
    whole = host.transaction(policy)
    failure(host)
    outcome = host.run(whole)
    assert host.boards["b"].version == OLD and ("erase", "b") not in host.steps
    assert host.results()["b"] == "failed" and host.outcome()["boards"]["b"]["detail"] in host.outcome()["detail"]
    # One for all, or each for itself.
    assert host.boards["a"].version == (OLD if policy == "exact" else NEW)
    assert host.results()["a"] == ("restored" if policy == "exact" else "flashed")
    assert outcome == ("restored" if policy == "exact" else "failed")
    assert host.active and host.left_behind() == []


@pytest.mark.parametrize("policy", ["exact", "compatible"])
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.__name__)
def test_board_that_fails_while_it_is_written_gets_its_former_firmware_back(
    host: FakeHost, failure: Callable[[FakeHost], None], policy: str
) -> None:
    whole = host.transaction(policy)
    failure(host)
    assert host.run(whole) == "restored"
    assert host.boards["b"].version == OLD and host.results()["b"] == "restored"
    assert host.boards["a"].version == (OLD if policy == "exact" else NEW)
    assert host.results()["a"] == ("restored" if policy == "exact" else "flashed")
    assert host.active and host.left_behind() == []
    ledgers = {name: host.store.ledger(name) for name in ("a", "b")}
    for name, ledger in ledgers.items():
        assert ledger is not None and ledger.image_sha256 == image(host.boards[name].version, name).sha256


def test_with_policy_exact_the_first_failure_ends_the_writing(host_with: MakeHost) -> None:
    host = host_with("a", "b", "c")
    host.faults["verify", "b"] = [VerifyError("differs")]
    assert host.run(host.transaction()) == "restored"
    assert ("enter", "c") not in host.steps
    assert host.results() == {"a": "restored", "b": "restored", "c": "untouched"}


@pytest.mark.parametrize("policy", ["exact", "compatible"])
def test_version_that_klippy_does_not_confirm_is_taken_back(host: FakeHost, policy: str) -> None:
    whole = host.transaction(policy)
    host.said["b"] = Firmware("klippy", "v3")
    host.said["a"] = Firmware("klippy", NEW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preconditions, "check_printer", lambda whole: None)
        assert host.run(whole) == "restored"
    assert "runs v3, expected v2" in host.outcome()["detail"]
    assert host.boards["b"].version == OLD and host.boards["a"].version == (OLD if policy == "exact" else NEW)


@pytest.mark.parametrize("policy", ["exact", "compatible"])
def test_klippy_that_does_not_get_ready_has_everything_taken_back(host: FakeHost, policy: str) -> None:
    host.faults["wait", ""] = [klippy.KlippyError("klippy is not ready: mcu shutdown")]
    assert host.run(host.transaction(policy)) == "restored"
    assert host.versions() == {"a": OLD, "b": OLD} and host.active
    assert host.outcome()["detail"] == "klippy is not ready: mcu shutdown"


def test_klippy_that_is_not_ready_after_the_way_back_either_is_told(host: FakeHost) -> None:
    host.faults["wait", ""] = [klippy.KlippyError("not ready"), klippy.KlippyError("still not")]
    assert host.run(host.transaction()) == "restored"
    assert host.outcome()["detail"].endswith("after that, still not")


def test_with_policy_compatible_only_the_board_that_keeps_klippy_from_being_ready_is_taken_back(host: FakeHost) -> None:
    host.silent.add(("b", NEW))
    assert host.run(host.transaction("compatible")) == "restored"
    assert host.versions() == {"a": NEW, "b": OLD} and host.active
    assert host.results() == {"a": "flashed", "b": "restored"}
    assert "no Klipper firmware answers" in host.outcome()["detail"]


def test_with_policy_compatible_what_failed_is_back_before_klippy_is_asked(host: FakeHost) -> None:
    """Otherwise klippy could never be ready, and the good neighbour would be blamed for it."""
    host.faults["verify", "b"] = [VerifyError("differs")]
    host.run(host.transaction("compatible"))
    steps = host.journal("restored", "starting", "ready", "committed")
    assert steps[:2] == ["restored b", "starting"] and "ready" in steps


def test_what_is_to_be_erased_goes_to_the_board_with_the_new_image_and_never_with_the_way_back(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, seen = Session.write, list[tuple[bytes, list[Region]]]()

    def watched(session: Session, data: bytes, progress: Any, erase: Sequence[Region] = ()) -> None:
        seen.append((data, list(erase)))
        write(session, data, progress)

    monkeypatch.setattr(Session, "write", watched)
    host.faults["verify", "b"] = [VerifyError("differs")]
    nvs = Region("nvs", 0x9000, 0x4000)
    assert host.run(host.transaction("compatible", erase=[nvs])) == "restored"
    assert seen == [(content(NEW, "a"), [nvs]), (content(NEW, "b"), [nvs]), (content(OLD, "b"), [])]
    written = [entry for entry in host.store.journal("t-1").read() if entry["step"] == "writing"]
    assert [entry["erase"] for entry in written] == [["nvs"], ["nvs"]]


# The way back fails too


def test_board_that_resists_once_is_tried_again(host: FakeHost) -> None:
    host.faults["erase", "b"] = [RefusedError("first"), RefusedError("second"), RefusedError("third")]
    assert host.run(host.transaction("compatible")) == "restored"
    assert host.journal("failed", "restore-failed", "restored") == [
        *("failed b", "restore-failed b", "restore-failed b", "restored b"),
    ]
    assert host.boards["b"].version == OLD and host.store.attention() == {}


@pytest.mark.parametrize("policy", ["exact", "compatible"])
def test_board_that_resists_its_way_back_is_latched_and_its_neighbour_keeps_its_own(
    host: FakeHost, policy: str
) -> None:
    host.faults["program", "b"] = [RefusedError("refused")] * 9
    whole = host.transaction(policy)
    assert host.run(whole) == "needs-attention"
    assert host.results()["b"] == "needs-attention"
    assert host.journal("restore-failed").count("restore-failed b") == patience.RESTORE_ATTEMPTS
    assert "refused. First failure: refused" in host.store.attention()["b"]
    # klippy can't be ready without b; that is no reason to take a's good firmware from it.
    assert host.boards["a"].version == (OLD if policy == "exact" else NEW)
    assert host.results()["a"] == ("restored" if policy == "exact" else "flashed")
    ledger = host.store.ledger("b")
    assert ledger is not None and ledger.image_sha256 not in (image(OLD, "b").sha256, image(NEW, "b").sha256)
    assert host.active and host.left_behind() == []


def test_board_without_a_way_back_is_latched_at_once(host_with: MakeHost) -> None:
    host = host_with("a")
    host.faults["verify", "a"] = [VerifyError("differs")]
    assert host.run(host.transaction(way_back=None)) == "needs-attention"
    assert "no way back was recorded" in host.store.attention()["a"]
    assert host.journal("restore-failed") == ["restore-failed a"] and host.steps.count(("erase", "a")) == 1


def test_what_was_read_before_the_first_erase_is_the_way_back(host_with: MakeHost) -> None:
    host = host_with("a")
    host.faults["verify", "a"] = [VerifyError("differs")]
    assert host.run(host.transaction(way_back=None, read_back=True)) == "restored"
    assert host.steps.index(("read", "a")) < host.steps.index(("erase", "a"))
    assert host.boards["a"].flash == content(OLD, "a") and host.results() == {"a": "restored"}
    assert host.journal("backed-up", "writing", "restored") == ["backed-up a", "writing a", "restored a"]
    ledger = host.store.ledger("a")
    assert ledger is not None and ledger.image_sha256 == image(OLD, "a").sha256
    assert host.store.read_image(ledger.image_sha256) == content(OLD, "a")


def interrupted(host: FakeHost) -> None:
    """An earlier write was interrupted: the flash is torn, and the ledger says so."""
    host.boards["a"].flash = content(NEW, "a")[:3]
    entry = LedgerEntry("", UNFINISHED, "", "t-0", "ch32v203c8t6", host.boards["a"].uid)
    host.store.write_ledger("a", entry)


def test_neither_what_an_interrupted_write_has_left_nor_another_boards_backup_is_a_way_back(
    host_with: MakeHost,
) -> None:
    host = host_with("a")
    interrupted(host)
    whole = host.transaction(way_back=None, read_back=True, expected=Firmware("none"))
    Backups(host.store).add(whole.boards[0], content(OLD, "a"), Firmware("klippy", OLD), "another", EARLIER)
    assert host.run(whole) == "failed"
    assert ("read", "a") not in host.steps and ("erase", "a") not in host.steps
    assert "register a known-good image" in host.outcome()["detail"]


def test_what_was_read_before_an_interrupted_write_is_the_way_back(host_with: MakeHost) -> None:
    host = host_with("a")
    whole = host.transaction(way_back=None, read_back=True)
    Backups(host.store).add(whole.boards[0], content(OLD, "a"), Firmware("klippy", OLD), host.boards["a"].uid, EARLIER)
    interrupted(host)
    host.faults["verify", "a"] = [VerifyError("differs")]
    assert host.run(host.transaction(way_back=None, read_back=True, expected=Firmware("none"))) == "restored"
    assert ("read", "a") not in host.steps and host.boards["a"].version == OLD


def test_board_with_a_known_way_back_is_not_read(host_with: MakeHost) -> None:
    host = host_with("a")
    host.run(host.transaction())
    assert ("read", "a") not in host.steps


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("read", ProtocolError("no answer")),
        ("read", OSError(28, "No space left on device")),
        ("compare", VerifyError("a second reading differs")),
    ],
)
def test_board_that_can_not_be_read_is_not_erased(host_with: MakeHost, step: str, fault: Exception) -> None:
    host = host_with("a")
    host.faults[step, "a"] = [fault]
    assert host.run(host.transaction(way_back=None, read_back=True)) == "failed"
    assert ("erase", "a") not in host.steps and host.boards["a"].version == OLD and host.active


def test_only_the_very_board_that_was_written_is_restored(host_with: MakeHost) -> None:
    """The plan did not know its unique id, but the journal does: another board at that port is left alone."""
    host = host_with("a")
    whole = host.transaction(uid="")
    host.faults["verify", "a"] = [VerifyError("differs")]
    first = host.boards["a"].uid
    programmed = host.steps.count(("program", "a"))
    enter = transaction.BoardOnPort.in_bootloader

    def swapped(self: Any, ask: Any, uid: str) -> Any:
        if ("verify", "a") in host.steps:
            host.boards["a"].uid = "beef"
        return enter(self, ask, uid)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transaction.BoardOnPort, "in_bootloader", swapped)
        assert host.run(whole) == "needs-attention"
    assert host.steps.count(("program", "a")) == programmed + 1
    assert f"expected {first}" in host.store.attention()["a"]


def test_board_that_is_good_again_is_no_longer_latched(host_with: MakeHost) -> None:
    host = host_with("a")
    host.store.write_attention("a", "old")
    host.run(host.transaction())
    assert host.store.attention() == {}


# The host fails


@pytest.mark.parametrize("step", ["stop", "start"])
def test_systemd_that_fails_in_the_middle_leaves_nothing_undone(host: FakeHost, step: str) -> None:
    """A failing stop ends the agent, and its guard settles; a failing start is told, and everything goes back."""
    whole = host.transaction()
    host.faults[step, ""] = [SystemdError(f"systemctl {step} klipper.service: no answer within 180 s")]
    try:
        host.run(whole)
    except SystemdError:
        host.after_death(whole)
    assert host.versions() == {"a": OLD, "b": OLD} and host.active
    assert f"systemctl {step}" in host.outcome()["detail"]
    assert host.left_behind() == []


def test_full_disk_does_not_keep_a_board_from_being_restored(host_with: MakeHost) -> None:
    host = host_with("a")
    whole = host.transaction()
    host.faults["verify", "a"] = [VerifyError("differs")]
    host.faults["before append", "restoring"] = [OSError(28, "No space left on device")]
    host.faults["before append", "failed"] = [OSError(28, "No space left on device")]
    assert host.run(whole) == "restored"
    assert host.boards["a"].version == OLD


def test_board_is_not_erased_unless_the_journal_says_that_it_will_be(host_with: MakeHost) -> None:
    host = host_with("a")
    host.faults["before append", "writing"] = [OSError(28, "No space left on device")]
    assert host.run(host.transaction()) == "failed"
    assert ("erase", "a") not in host.steps and host.boards["a"].version == OLD


def test_nothing_is_stopped_before_the_settle_unit_is_there(host: FakeHost) -> None:
    whole = host.transaction()
    seen: list[bool] = []
    stop = systemd.stop

    def look(unit: str) -> None:
        seen.append(guard.SETTLE_UNIT.exists() and guard.SETTLE_LINK.is_symlink() and guard.BUSY.exists())
        stop(unit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(systemd, "stop", look)
        host.run(whole)
    assert seen == [True]


def test_downtime_is_from_the_stop_until_klippy_is_ready(host_with: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host = host_with("a")
    seconds = iter(range(1000, 2000))
    monkeypatch.setattr(moment, "now", lambda: {"time": 0.0, "monotonic": float(next(seconds)), "boot": "only"})
    host.run(host.transaction())
    times = {entry["step"]: entry["monotonic"] for entry in host.store.journal("t-1").read()}
    assert host.outcome()["downtime"] == times["ready"] - times["stopping"] > 0


def test_downtime_survives_a_clock_that_jumps(host_with: MakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host = host_with("a")
    jumps = iter([7 * 86400.0, -86400.0] * 100)
    monkeypatch.setattr("fleetflash.agent.moment.time.time", lambda: 1e9 + next(jumps))
    host.run(host.transaction())
    assert host.outcome()["outcome"] == "committed" and 0 <= host.outcome()["downtime"] < 60


def test_images_that_nothing_names_are_forgotten_at_the_end(host_with: MakeHost) -> None:
    host = host_with("a")
    disk.write_file(host.store.image("0" * 64), b"old")
    host.run(host.transaction())
    assert {path.stem for path in host.store.root.glob("images/*")} == {image(v, "a").sha256 for v in (OLD, NEW)}


def test_a_neighbour_whose_way_back_is_out_of_reach_is_not_entered_as_flashed(
    host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With policy ``exact`` a verified board goes back, too; when the controller is lost in that, it holds neither."""
    host.faults["verify", "b"] = [VerifyError("differs")]
    write = FakeProgrammer.write

    def lost(programmer: FakeProgrammer, data: bytes, progress: Callable[[int, int], None]) -> None:
        if data == content(OLD, "a"):
            programmer.board.flash = b"half"
            raise OutOfReachError("a: the controller's session was lost")
        write(programmer, data, progress)

    monkeypatch.setattr(FakeProgrammer, "write", lost)
    host.run(host.transaction("exact", klippy_mcu=None))
    ledger = host.store.ledger("a")
    assert ledger is not None and ledger.image_sha256 == UNFINISHED
    assert host.results() == {"a": "failed", "b": "restored"}


def test_a_board_that_replaces_one_whose_write_was_interrupted_is_read(host_with: MakeHost) -> None:
    host = host_with("a")
    host.store.write_ledger("a", LedgerEntry("", UNFINISHED, "", "t0", "ch32v203c8t6", "ff" * 8))
    host.faults["verify", "a"] = [VerifyError("differs")]
    host.run(host.transaction("compatible", way_back=None, read_back=True))
    assert host.results() == {"a": "restored"}


def test_settlings_that_die_in_the_middle_of_a_way_back_do_not_go_on_without_end(host_with: MakeHost) -> None:
    host = host_with("a")
    whole = host.transaction()
    host.kill_on = ("programming", "a")
    with pytest.raises(Death):
        host.run(whole)
    for _ in range(patience.RESTORE_ATTEMPTS):
        host.kill_on = ("programming", "a")
        with pytest.raises(Death):
            host.after_death(whole)
    host.faults["program", "a"] = [RefusedError("refused")] * 9
    host.after_death(whole)
    assert host.journal("restoring") == ["restoring a"] * (patience.RESTORE_ATTEMPTS + 1)
    assert host.results() == {"a": "needs-attention"} and host.active
