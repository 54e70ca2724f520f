"""Whatever the agent was doing when it died: afterwards no board is half-written, Klipper is as it was, and what the
host has on record is what its boards run. Every single step is struck, and every step of the settling after it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transaction_host import NEW, OLD, Death, FakeHost, content, image, make_host

from fleetflash.agent import guard, patience
from fleetflash.agent.holds import Holds
from fleetflash.agent.lineage import Lineages
from fleetflash.agent.protocols.errors import NoAnswerError, RefusedError, VerifyError
from fleetflash.agent.schema import Firmware, ObjectCheck, Power, Transaction

Play = Callable[[FakeHost], Transaction]


def all_well(host: FakeHost) -> Transaction:
    return host.transaction()


def klipper_stopped(host: FakeHost) -> Transaction:
    host.active = host.ready = False
    return host.transaction()


def exact_second_board_fails(host: FakeHost) -> Transaction:
    host.faults["verify", "b"] = [VerifyError("differs")]
    return host.transaction()


def compatible_second_board_fails(host: FakeHost) -> Transaction:
    host.faults["program", "b"] = [RefusedError("refused"), RefusedError("refused again")]
    return host.transaction("compatible")


def compatible_first_board_is_not_entered(host: FakeHost) -> Transaction:
    host.faults["enter", "a"] = [NoAnswerError("silent")]
    return host.transaction("compatible")


def way_back_is_read_from_the_boards(host: FakeHost) -> Transaction:
    host.faults["verify", "b"] = [VerifyError("differs")]
    return host.transaction("compatible", way_back=None, read_back=True)


def rollback_whose_second_board_fails(host: FakeHost) -> Transaction:
    host.faults["program", "b"] = [RefusedError("refused")]
    return host.rollback("c")


def board_that_only_power_brings_back(host: FakeHost) -> Transaction:
    host.hangs["reset", "a"] = 1
    return host.transaction(power=Power(device="relay"))


def sensor_that_does_not_answer_after_the_flash(host: FakeHost) -> Transaction:
    checks = [ObjectCheck("temperature_sensor ams", "temperature", minimum=5.0)]
    return replace(host.transaction("compatible"), checks=checks, checks_seconds=0.0)


PLAYS: list[Play] = [
    sensor_that_does_not_answer_after_the_flash,
    board_that_only_power_brings_back,
    rollback_whose_second_board_fails,
    way_back_is_read_from_the_boards,
    all_well,
    klipper_stopped,
    exact_second_board_fails,
    compatible_second_board_fails,
    compatible_first_board_is_not_entered,
]


def until_killed(host: FakeHost, whole: Transaction, tick: int | tuple[str, str]) -> bool:
    """Run a transaction whose agent dies at that tick; false when it has ended before."""
    if isinstance(tick, int):
        host.kill_at = tick
    else:
        host.kill_on = tick
    try:
        host.run(whole)
    except Death:
        return True
    return False


def wrong(host: FakeHost, whole: Transaction) -> str:
    """Say what of the promise is broken."""
    outcome = host.outcome()
    if host.left_behind():
        return f"left behind {host.left_behind()}"
    if host.active != whole.was_active:
        return "Klipper is not as it was"
    for name, result in host.results().items():
        version = host.boards[name].version
        if version != (NEW if result == "flashed" else OLD):
            return f"{name} is said to be {result} and runs {version or 'nothing'}"
        ledger = host.store.ledger(name)
        # Of a board that was met and not written yet, the ledger knows no image.
        known = [image(version, name).sha256] + [""] * (("erase", name) not in host.steps)
        if ledger is not None and ledger.image_sha256 not in known:
            return f"{name} runs {version}, the ledger says {ledger.version or ledger.image_sha256}"
    if whole.policy == "exact" and len(set(host.versions().values())) > 1:
        return f"boards that belong together run {host.versions()}"
    came = {name for name, result in host.results().items() if result == "flashed"}
    held = set(Holds(host.store).all())
    if held - {"c"} != (came if whole.holds else set()):
        return f"{came} came, {held} are held"
    for name in host.boards:
        ran = [past.image.sha256 for past in Lineages(host.store).of(name)]
        # What a rollback has left is no way back any more.
        versions = [] if name not in came else [NEW] if whole.holds else [NEW, OLD]
        if ran != [image(version, name).sha256 for version in versions]:
            return f"{name} is said to have run {len(ran)} images, expected {versions}"
    flashed = set(host.results().values()) == {"flashed"}
    if (outcome["outcome"] == "committed") != flashed:
        return f"{outcome['outcome']} with {host.results()}"
    restored = [step.split()[1] for step in host.journal("restored")]
    for name in (step.split()[1] for step in host.journal("writing")):
        if name not in restored and host.results()[name] != "flashed":
            return f"{name} was written, and neither restored nor committed"
    return ""


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.__name__)
def test_death_at_any_step_is_settled(play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems, tick, alive = [], 0, True
    while alive:
        host = make_host(tmp_path / str(tick), monkeypatch, "a", "b")
        whole = play(host)
        alive = until_killed(host, whole, tick)
        died_at = f"tick {tick}, after {host.steps[-3:]}"
        host.after_death(whole)
        if problem := wrong(host, whole):
            problems.append(f"{died_at}: {problem}")
        tick += 1
        monkeypatch.undo()
    assert problems == []
    assert tick > 50  # as many deaths as a transaction has steps


@pytest.mark.parametrize("play", [all_well, exact_second_board_fails], ids=lambda play: play.__name__)
def test_death_while_settling_is_settled_by_the_next_one(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every third step of the transaction, and at every third of the settling."""
    problems, first, alive = [], 0, True
    while alive:
        second, settling = 0, True
        while alive and settling:
            host = make_host(tmp_path / f"{first}-{second}", monkeypatch, "a", "b")
            whole = play(host)
            alive = until_killed(host, whole, first)
            host.kill_at = len(host.steps) + second
            try:
                host.after_death(whole)
                settling = False
            except Death:
                host.after_death(whole)
            if problem := wrong(host, whole):
                problems.append(f"ticks {first} and {second}: {problem}")
            second += 3
            monkeypatch.undo()
        first += 3
    assert problems == []


def test_klipper_starts_even_when_the_settling_dies_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard's last line: a printer with a broken board is better than one that says nothing."""
    host = make_host(tmp_path, monkeypatch, "a")
    whole = host.transaction()
    assert until_killed(host, whole, ("program", "a"))
    host.kill_at = len(host.steps)
    with pytest.raises(Death):
        host.after_death(whole)
    assert host.active


def test_klipper_that_somebody_stopped_meanwhile_is_not_started_for_an_older_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(tmp_path, monkeypatch, "a")
    whole = host.transaction()
    guard.mark_stopped()  # left by an earlier transaction
    assert until_killed(host, whole, ("systemctl", ""))
    host.active = False
    host.after_death(whole)
    assert not host.active and host.results() == {"a": "untouched"}


def test_settling_does_not_wait_for_klipper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At boot its unit is ordered before Klipper: it would wait for itself."""
    host = make_host(tmp_path, monkeypatch, "a")
    whole = host.transaction()
    assert until_killed(host, whole, ("program", "a"))
    host.after_death(whole)
    assert host.active and host.waited == [False]


def test_settling_twice_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = make_host(tmp_path, monkeypatch, "a", "b")
    whole = exact_second_board_fails(host)
    host.run(whole)
    before, steps = host.outcome(), len(host.steps)
    assert host.runner(whole).settle() == "restored"
    assert host.outcome() == before
    assert [step for step, _ in host.steps[steps:] if step in ("stop", "start", "open")] == []


def died_settling_b_after_a_resisted(host: FakeHost, refusals: int) -> Transaction:
    """Both boards are half-way; the first settling fails with ``a`` and dies while it writes ``b``."""
    whole = host.transaction()
    assert until_killed(host, whole, ("programming", "b"))
    host.faults["erase", "a"] = [RefusedError("refused")] * refusals
    host.kill_on = ("program", "b")
    with pytest.raises(Death):
        host.after_death(whole)
    assert list(host.store.attention()) == ["a"]
    return whole


def test_board_that_resisted_a_settling_stays_latched_and_costs_the_next_one_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settling that runs out of time would otherwise never get to the boards behind it."""
    host = make_host(tmp_path, monkeypatch, "a", "b")
    whole = died_settling_b_after_a_resisted(host, refusals=9)
    host.after_death(whole)
    assert host.results() == {"a": "needs-attention", "b": "restored"}
    assert "refused. First failure: interrupted" in host.store.attention()["a"]
    assert host.boards["b"].version == OLD and host.left_behind() == [] and host.active
    attempts = patience.RESTORE_ATTEMPTS
    assert host.journal("restoring") == [*["restoring a"] * attempts, *["restoring b"] * 2, "restoring a"]


def test_board_that_comes_back_in_a_later_settling_is_no_longer_latched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(tmp_path, monkeypatch, "a", "b")
    whole = died_settling_b_after_a_resisted(host, refusals=patience.RESTORE_ATTEMPTS)
    host.after_death(whole)
    assert wrong(host, whole) == "" and host.results() == {"a": "restored", "b": "restored"}
    assert host.store.attention() == {}


def test_board_is_found_under_its_new_device_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two boards have swapped their ttyUSB numbers: each gets its own former firmware."""
    host = make_host(tmp_path, monkeypatch, "a", "b")
    whole = host.transaction()
    assert until_killed(host, whole, ("programming", "b"))
    monkeypatch.undo()
    # The same host, booted again.
    again = make_host(tmp_path, monkeypatch, "a", "b")
    again.boards, again.active = host.boards, False
    again.places = {"a": "/dev/b", "b": "/dev/a"}
    again.after_death(whole)
    assert wrong(again, whole) == ""
    assert again.versions() == {"a": OLD, "b": OLD}


def test_print_that_runs_by_now_is_not_stopped_to_settle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = make_host(tmp_path, monkeypatch, "a", "b")
    whole = host.transaction()
    assert until_killed(host, whole, ("wait", ""))
    host.print_state = "printing"
    assert host.runner(whole).settle() == ""
    assert host.active and host.store.read_outcome("t-1") is None


def test_firmware_that_klippy_confirms_is_kept_although_the_agent_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(tmp_path, monkeypatch, "a", "b")
    whole = host.transaction()
    assert until_killed(host, whole, ("wait", ""))
    host.after_death(whole)
    assert host.results() == {"a": "flashed", "b": "flashed"} and wrong(host, whole) == ""


def test_firmware_that_was_not_verified_is_not_kept_whatever_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(tmp_path, monkeypatch, "a")
    whole = host.transaction()
    assert until_killed(host, whole, ("verify", "a"))
    # Somebody has reset the board and started Klipper before the settling.
    host.boards["a"].mode, host.active = "application", True
    host.said["a"] = Firmware("klippy", NEW)
    host.after_death(whole)
    assert host.results() == {"a": "restored"}
    assert host.boards["a"].flash == content(OLD, "a")
