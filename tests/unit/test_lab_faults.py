"""What is planned for a simulated board comes in its order, as often as it was planned, and after its gate."""

import pytest

from fleetflash.lab.boards.faults import Fault, Faults


def kinds(faults: Faults, *commands: str) -> list[str]:
    found = [faults.take(command, 0, 56) for command in commands]
    return [fault.kind if fault else "" for fault in found]


def test_first_planned_strikes_first_and_only_so_often() -> None:
    faults = Faults()
    faults.add(Fault("drop", "program", count=2))
    faults.add(Fault("hang", "program"))
    assert kinds(faults, "verify", "program", "program", "program", "program") == ["", "drop", "drop", "hang", ""]


def test_what_comes_after_a_gate_strikes_only_then_and_the_gate_itself_does_no_harm() -> None:
    faults = Faults()
    faults.add(Fault("gate", "verify", then=(Fault("wrong_status", "verify"), Fault("pause", "program"))))
    assert kinds(faults, "program", "verify", "verify", "program") == ["", "", "wrong_status", "pause"]


def test_gate_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="a gate, and nothing else, needs the faults that come then"):
        Fault("gate", "verify")
    with pytest.raises(ValueError, match="a gate, and nothing else"):
        Fault("drop", "verify", then=(Fault("drop", "program"),))
