"""Before production everything is compared with what was declared; any drift is in the table and in the exit code."""

import dataclasses
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from fleetflash.agent.schema import Firmware, TransactionFacts
from fleetflash.boards import BoardDataError
from fleetflash.facts import verification
from fleetflash.facts.verification import moonraker_port
from fleetflash.incident.redaction import Redactor
from fleetflash.plan import offline, unusable
from fleetflash.report.verification import VerificationReport
from fleetflash.verification.check import Check, Result, exit_code, print_checks, to_json
from fleetflash.verification.host_checks import check_host
from tests.unit.observed import NEW, facts, firmware, ledger, plan, service, snapshot

READY = {"version": "v0.9", "klippy": "ready"}


def healthy() -> dict[str, Result]:
    return results(check_host(plan(seen := snapshot(facts(firmware=firmware("v2")))), seen, READY, {}))


def results(checks: list[Check]) -> dict[str, Result]:
    return {check.name: check.result for check in checks}


def test_everything_as_declared_is_fine() -> None:
    names = ("ssh", "sudo", "klippy", "moonraker", "port", "image", "version", "dry run")
    assert healthy() == dict.fromkeys(names, Result.OK)


def test_another_version_than_the_pin_is_drift_with_both_named() -> None:
    seen = snapshot()
    checks = check_host(plan(seen), seen, READY, {})
    version = next(check for check in checks if check.name == "version")
    assert (version.expected, version.found, version.result) == ("v2", "v1", Result.DRIFT)
    dry_run = next(check for check in checks if check.name == "dry run")
    assert (dry_run.found, dry_run.result) == ("would be flashed", Result.DRIFT)


def test_same_version_of_another_configuration_is_drift_of_the_dry_run() -> None:
    seen = snapshot(facts(firmware=firmware("v2", CLOCK_FREQ=1)))
    found = results(check_host(plan(seen), seen, READY, {}))
    assert found["version"] is Result.OK and found["dry run"] is Result.DRIFT


@pytest.mark.parametrize(
    ("name", "changed", "result"),
    [
        ("sudo", {"sudo": "user pi may not run python3"}, Result.DRIFT),
        ("klippy", {"service": service(klippy="error", error="mcu 'mcu': Unable to connect")}, Result.DRIFT),
        ("klippy", {"service": service(active="inactive", klippy="")}, Result.DRIFT),
        ("transactions", {"transaction": TransactionFacts("t9", "", False, False, controller="me")}, Result.DRIFT),
    ],
)
def test_host_that_is_not_as_it_should_be_is_drift(name: str, changed: dict[str, object], result: Result) -> None:
    seen = dataclasses.replace(snapshot(facts(firmware=firmware("v2"))), **changed)  # type: ignore[arg-type]
    found = [check for check in check_host(plan(seen), seen, READY, {}) if check.name == name]
    assert [check.result for check in found] == [result] and found[0].detail


@pytest.mark.parametrize("answer", [{"error": "http://127.0.0.1:7125: refused"}, {"version": "v", "klippy": "error"}])
def test_moonraker_that_does_not_answer_or_sees_no_klippy_is_drift(answer: dict[str, str]) -> None:
    seen = snapshot(facts(firmware=firmware("v2")))
    assert results(check_host(plan(seen), seen, answer, {}))["moonraker"] is Result.DRIFT


def test_host_without_moonraker_is_not_asked_for_one() -> None:
    seen = snapshot(facts(firmware=firmware("v2")))
    assert "moonraker" not in results(check_host(plan(seen), seen, {}, {}))


def test_port_that_is_absent_is_drift_and_its_board_would_be_refused() -> None:
    seen = snapshot(facts(device="", candidates=[], firmware=Firmware("none", error="port is not there")))
    found = results(check_host(plan(seen), seen, READY, {}))
    assert found["port"] is Result.DRIFT and found["dry run"] is Result.FAILED and found["version"] is Result.DRIFT


def test_damaged_image_is_drift_although_the_board_runs_it() -> None:
    seen = snapshot(facts(firmware=firmware("v2")))
    found = check_host(plan(seen), seen, READY, {"bmcu": "firmware.bin: expected sha256 …"})
    assert results(found)["image"] is Result.DRIFT and exit_code(found) == 2


def test_version_that_only_the_ledger_knows_is_told_as_assumed() -> None:
    unasked = Firmware("unasked", error="only a reset would have it say what it runs")
    seen = snapshot(facts(firmware=unasked, ledger=ledger(NEW)))
    (version,) = [check for check in check_host(plan(seen), seen, READY, {}) if check.name == "version"]
    assert (version.found, version.result) == ("assumed", Result.OK) and "ledger" in version.detail


def test_host_that_does_not_answer_is_one_failed_check_with_the_reason() -> None:
    (only,) = check_host(offline("h", "no route"), None, {}, {})
    assert (only.name, only.result, only.detail) == ("ssh", Result.FAILED, "no route")


def check(result: Result) -> Check:
    return Check("h", "b", "version", "v2", "v1", result, "why")


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([Result.OK], 0),
        ([Result.OK, Result.SKIPPED], 0),
        ([Result.OK, Result.DRIFT], 2),
        ([Result.DRIFT, Result.FAILED], 3),
        ([Result.SKIPPED], 3),
        ([], 3),
    ],
)
def test_exit_code_is_zero_only_when_something_was_looked_at_and_all_is_well(found: list[Result], code: int) -> None:
    assert exit_code([check(result) for result in found]) == code


def test_table_gives_the_reasons_below_and_json_the_exit_code() -> None:
    text = io.StringIO()
    print_checks([check(Result.OK), check(Result.DRIFT)], text)
    assert "h/b: version: drift: why" in text.getvalue() and "2 checks: 1 ok, 1 drift" in text.getvalue()
    assert "version: ok" not in text.getvalue()
    print_checks([dataclasses.replace(check(Result.DRIFT), detail="")], text)
    assert "h/b: version: drift: found v1, expected v2" in text.getvalue()
    assert json.loads(to_json([check(Result.DRIFT)])) == {
        "checks": [{"host": "h", "board": "b", "name": "version", "expected": "v2", "found": "v1", "result": "drift",
                    "detail": "why"}],
        "exit_code": 2,
    }  # fmt: skip


def test_report_is_without_secrets_and_says_what_could_not_be_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = VerificationReport(Redactor(["hunter2"]), types=tmp_path / "builders.py")
    built = NEW.model_copy(update={"build": {"commit": "c" * 40}})
    report.add([dataclasses.replace(check(Result.DRIFT), detail="it is hunter2")], [built])
    assert report.conclude() == 3
    told = capsys.readouterr().out
    assert "[redacted]" in told and "hunter2" not in told
    assert "builders.py: No such file" in told
    report = VerificationReport(Redactor(), rebuilds=False, as_json=True)
    report.add([check(Result.OK)], [built])
    assert report.conclude() == 0 and json.loads(capsys.readouterr().out)["exit_code"] == 0


@pytest.mark.parametrize(("data", "port"), [({}, 7125), ({"moonraker_port": 0}, 0), ({"klipper_service": None}, 0)])
def test_moonraker_is_asked_where_the_inventory_says(data: dict[str, object], port: int) -> None:
    assert moonraker_port(SimpleNamespace(data=data)) == port


@pytest.mark.parametrize("port", ["7125", True, -1, 65536])
def test_moonraker_port_that_is_none_is_refused(port: object) -> None:
    with pytest.raises(BoardDataError, match="moonraker_port: expected a port"):
        moonraker_port(SimpleNamespace(data={"moonraker_port": port}))


def test_plan_that_is_shown_is_without_the_secret_beside_a_mistake() -> None:
    shown = Redactor(["hunter2"]).plan(unusable("h", "boards: expected a dictionary, found 'hunter2'"))
    assert shown.boards[0].reason == "boards: expected a dictionary, found '[redacted]'"


def test_what_a_gateway_does_is_part_of_the_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {"can": {"log": "none.log"}}
    board = {"port": "/dev/x", "chip": "esp32", "programmer": "esptool", "firmware": "g", "checks": checks}
    data = {"klipper_service": None, "boards": {"gw": board}}
    host = SimpleNamespace(name="desk", data=SimpleNamespace(dict=lambda: data, get=data.get))
    monkeypatch.setattr(verification, "decide", lambda _: offline("desk", "no route"))
    found, _ = verification.verify(host)
    assert [(check.board, check.name, check.result) for check in found] == [
        ("-", "ssh", Result.FAILED),
        ("gw", "can", Result.FAILED),
    ]
