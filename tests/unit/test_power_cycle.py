"""A board that does not come back is switched off and on before it is given up, a few times, and stays on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from transaction_host import NEW, OLD, Death, FakeHost, make_host

from fleetflash.agent import patience, power_cycle, power_supply
from fleetflash.agent.patience import BACK_CYCLES, FORWARD_CYCLES, ON_ATTEMPTS, cycle_seconds, settle_seconds
from fleetflash.agent.port import PortError
from fleetflash.agent.power_supply import PowerError
from fleetflash.agent.protocols.errors import NoAnswerError, VerifyError
from fleetflash.agent.schema import Firmware, Power, Transaction

MOST_CYCLES = FORWARD_CYCLES + BACK_CYCLES
RELAY = Power(device="relay")
PERSON = Power(gesture="pull its plug", seconds=120.0)
MakeHost = Callable[..., FakeHost]


@pytest.fixture
def host_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeHost:
    return lambda *names: make_host(tmp_path, monkeypatch, *names)


def power_steps(host: FakeHost) -> list[str]:
    return [f"{step} {board}" for step, board in host.steps if step.startswith("power")]


def powered(whole: Transaction, name: str, power: Power = RELAY) -> Transaction:
    """The transaction in which that board alone can be switched."""
    return replace(whole, boards=[replace(b, power=power) if b.name == name else b for b in whole.boards])


def test_board_that_does_not_answer_in_its_bootloader_is_written_after_a_power_cycle(host_with: MakeHost) -> None:
    host = host_with("a")
    host.hangs["enter", "a"] = 1
    assert host.run(host.transaction(power=RELAY)) == "committed"
    assert host.versions() == {"a": NEW} and power_steps(host) == ["power off a", "power on a"]
    kept = host.journal("entering", "power-cycling", "power-off", "power-on", "power-cycled", "writing")
    assert [step.split()[0] for step in kept] == [
        *("entering", "power-cycling", "power-off", "power-on", "power-cycled", "entering", "writing")
    ]


@pytest.mark.parametrize("klippy_mcu", ["a", None], ids=["klippy tells", "the board itself tells"])
def test_board_that_does_not_run_what_was_written_is_kept_when_power_brings_it_back(
    host_with: MakeHost, klippy_mcu: str | None
) -> None:
    host = host_with("a")
    host.hangs["reset", "a"] = 1
    assert host.run(host.transaction(power=RELAY, klippy_mcu=klippy_mcu)) == "committed"
    assert host.versions() == {"a": NEW} and host.active and host.journal("restoring") == []
    assert power_steps(host) == ["power off a", "power on a"]


def test_only_the_board_that_is_silent_is_switched_off(host_with: MakeHost) -> None:
    host = host_with("a", "b")
    host.hangs["reset", "b"] = 1
    assert host.run(host.transaction("compatible", power=RELAY)) == "committed"
    assert host.versions() == {"a": NEW, "b": NEW} and power_steps(host) == ["power off b", "power on b"]


def test_board_that_power_does_not_bring_back_is_taken_back(host_with: MakeHost) -> None:
    host = host_with("a")
    host.silent.add(("a", NEW))
    assert host.run(host.transaction(power=RELAY)) == "restored"
    assert host.versions() == {"a": OLD} and power_steps(host) == ["power off a", "power on a"]


def test_way_back_has_a_power_cycle_of_its_own_before_the_board_is_given_up(host_with: MakeHost) -> None:
    host = host_with("a")
    host.faults["verify", "a"] = [NoAnswerError("no answer within 1 s")]
    host.hangs.update({("verify", "a"): 1, ("reset", "a"): 1})
    assert host.run(host.transaction(power=RELAY)) == "restored"
    assert host.versions() == {"a": OLD} and host.results() == {"a": "restored"}
    assert power_steps(host) == ["power off a", "power on a"] * MOST_CYCLES


def test_board_that_hangs_in_the_middle_of_a_write_goes_back(host_with: MakeHost) -> None:
    host = host_with("a")
    host.faults["verify", "a"], host.hangs["verify", "a"] = [NoAnswerError("no answer within 1 s")], 1
    assert host.run(host.transaction(power=RELAY)) == "restored"
    assert host.versions() == {"a": OLD} and host.journal("writing") == ["writing a"]


def test_dead_board_is_switched_off_and_on_so_often_and_no_oftener(
    host_with: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = host_with("a")
    host.faults["program", "a"], host.hangs["program", "a"] = [NoAnswerError("no answer within 1 s")], 1
    monkeypatch.setattr(power_supply, "switch", lambda board, power, on, _: host.tick(f"power {on}", board.name))
    whole = host.transaction(power=RELAY)
    assert host.run(whole) == "needs-attention"
    assert power_steps(host) == ["power False a", "power True a"] * MOST_CYCLES
    assert len(host.journal("restoring")) == patience.RESTORE_ATTEMPTS
    host.store.outcome_path("t-1").unlink()  # the agent has died just before it wrote that
    host.runner(whole).settle()
    assert power_steps(host) == ["power False a", "power True a"] * MOST_CYCLES


def says_another_version(host: FakeHost) -> None:
    host.said["a"] = Firmware("klippy", OLD)


def verifies_otherwise(host: FakeHost) -> None:
    host.faults["verify", "a"] = [VerifyError("differs")] * 2


def port_is_held(host: FakeHost) -> None:
    host.faults["open", "/dev/a"] = [PortError("/dev/a: in use by picocom (pid 7); stop it first")]


@pytest.mark.parametrize("fault", [says_another_version, verifies_otherwise, port_is_held], ids=lambda f: f.__name__)
def test_board_that_answers_is_not_switched_off(host_with: MakeHost, fault: Callable[[FakeHost], None]) -> None:
    host = host_with("a")
    fault(host)
    assert host.run(host.transaction(power=RELAY)) in ("restored", "failed")
    assert power_steps(host) == [] and host.versions() == {"a": OLD}


def test_board_without_power_is_taken_back_as_before(host_with: MakeHost) -> None:
    host = host_with("a", "b")
    host.silent.add(("a", NEW))
    assert host.run(powered(host.transaction(), "b")) == "restored"
    assert power_steps(host) == [] and host.versions() == {"a": OLD, "b": OLD}


def test_board_that_can_not_be_switched_off_is_switched_on_all_the_same_and_why_is_told(host_with: MakeHost) -> None:
    host = host_with("a")
    host.silent.update({("a", NEW), ("a", OLD)})
    host.faults["power off", "a"] = [PowerError("a: Moonraker says no")] * 2
    assert host.run(host.transaction(power=RELAY)) == "needs-attention"
    assert power_steps(host) == ["power off a", "power on a"] * MOST_CYCLES and host.boards["a"].powered
    assert "Its power could not be cycled: a: Moonraker says no" in host.outcome()["boards"]["a"]["detail"]


def test_switching_on_is_tried_again(host_with: MakeHost) -> None:
    host = host_with("a")
    host.hangs["enter", "a"] = 1
    host.faults["power on", "a"] = [PowerError("timed out")] * 2
    assert host.run(host.transaction(power=RELAY)) == "committed"
    assert host.boards["a"].powered and power_steps(host) == ["power off a", *["power on a"] * 3]


def test_board_that_stays_off_says_so(host_with: MakeHost) -> None:
    host = host_with("a")
    host.hangs["reset", "a"] = 1
    host.faults["power on", "a"] = [PowerError("a: timed out")] * ON_ATTEMPTS * MOST_CYCLES
    assert host.run(host.transaction(power=RELAY)) == "needs-attention"
    assert "may be switched off still: switch it on by hand" in host.outcome()["boards"]["a"]["detail"]
    (failed,) = [entry for entry in host.store.journal("t-1").read() if entry["step"] == "failed"]
    assert "may be switched off still" in failed["error"]


@pytest.mark.parametrize("step", ["power off", "power on"])
def test_death_while_a_board_is_off_is_settled_by_switching_it_on(host_with: MakeHost, step: str) -> None:
    host = host_with("a")
    host.hangs["enter", "a"] = 1
    host.kill_on = (step, "a")
    whole = host.transaction(power=RELAY)
    with pytest.raises(Death):
        host.run(whole)
    host.after_death(whole)
    assert power_steps(host) == ["power off a", "power on a"][step == "power off" :]
    assert host.steps.index(("power on", "a")) < host.steps.index(("start", ""))
    assert host.boards["a"].answers and host.versions() == {"a": OLD} and host.active


def test_it_stays_off_for_the_ten_seconds_of_the_procedure(
    host_with: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[tuple[float, str]] = []
    host = host_with("a")
    monkeypatch.setattr(patience, "OFF_SECONDS", 10.0)
    monkeypatch.setattr(power_cycle.time, "sleep", lambda seconds: slept.append((seconds, power_steps(host)[-1])))
    host.hangs["enter", "a"] = 1
    assert host.run(host.transaction(power=RELAY)) == "committed"
    assert slept == [(10.0, "power off a")]


def test_person_is_asked_and_the_board_is_tried_when_its_port_is_back(host_with: MakeHost) -> None:
    host = host_with("a")
    host.hangs["enter", "a"] = 1
    looks = 0
    find = host.candidates

    def candidates(port: str, ports: object) -> list[str]:
        nonlocal looks
        if host.boards["a"].hangs and host.journal("hands"):
            looks += 1
            if looks == 2:
                host.boards["a"].hangs = False
                return []
        return find(port, ports)

    runner = host.begin(host.transaction(power=PERSON))
    runner.boards["a"]._devices = lambda: candidates("/dev/by-path/a", [])  # type: ignore[method-assign]
    assert runner.run() == "committed" and host.versions() == {"a": NEW}
    (asked,) = [entry for entry in host.store.journal("t-1").read() if entry["step"] == "hands"]
    assert asked["gesture"].startswith("pull its plug (off, ") and asked["seconds"] == 120.0
    assert power_steps(host) == []


def test_person_who_does_nothing_is_not_waited_for_without_end(host_with: MakeHost) -> None:
    host = host_with("a")
    host.hangs["enter", "a"] = 1
    assert host.run(host.transaction(power=replace(PERSON, seconds=0.01))) == "failed"
    assert len(host.journal("hands")) == MOST_CYCLES and host.active


def test_settling_has_the_time_that_power_takes(host_with: MakeHost) -> None:
    host = host_with("a", "b")
    bare = replace(host.transaction(), restore_seconds=100.0)
    slow = Power(command=["relay"], seconds=60.0)
    more = settle_seconds(replace(bare, boards=[replace(b, power=slow) for b in bare.boards])) - settle_seconds(bare)
    assert more >= 2 * MOST_CYCLES * cycle_seconds(slow) and cycle_seconds(slow) >= 120 + patience.OFF_SECONDS
    assert cycle_seconds(PERSON) == 120.0 and cycle_seconds(None) == 0.0
