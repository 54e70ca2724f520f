"""A bundle has a gateway's boots as a person needs them: each rule of the contract, and where the firmware panicked."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent.acceptance.verdict import Verdict
from fleetflash.agent.schema import to_json
from fleetflash.firmware.symbols import SymbolFiles
from fleetflash.incident.boot_files import boot_files
from tests.unit.boot_logs import PANIC, START, WITH_CARD, build_elf, judge, text

LOG = "monitor-gw-1.log"


def boot(verdict: Verdict | None, reason: str) -> dict[str, Any]:
    judged = to_json(verdict) if verdict else None
    return {"attempt": 1, "of": 3, "accepted": not reason, "reason": reason, "log": LOG, "verdict": judged}


def outcome(*boots: Mapping[str, Any]) -> dict[str, Any]:
    return {"outcome": "restored", "boards": {"gw": {"result": "restored", "boots": list(boots)}, "mcu": {}}}


@pytest.fixture
def symbols(tmp_path: Path) -> SymbolFiles:
    return SymbolFiles(tmp_path / "symbols")


def with_elf(symbols: SymbolFiles, tmp_path: Path) -> str:
    data = build_elf(tmp_path).read_bytes()
    symbols.publish(data, b"map")
    return hashlib.sha256(data).hexdigest()


def test_a_panic_s_addresses_are_functions_of_the_build_that_was_wanted(tmp_path: Path, symbols: SymbolFiles) -> None:
    verdict = judge((*WITH_CARD, *PANIC))
    digest = with_elf(symbols, tmp_path)
    files = dict(boot_files(outcome(boot(verdict, verdict.summary())), {"gw": digest}, tmp_path, symbols))
    assert list(files) == ["boots/gw-1.txt"]  # the log is not here
    lines = files["boots/gw-1.txt"].splitlines()
    assert lines[0].startswith("attempt 1 of 3: rejected: 'panics'")
    assert any(line.startswith("  FAIL panics") for line in lines)
    assert any(line.startswith("    0x400d0001: mount_card") for line in lines)


def test_a_panic_that_names_another_build_is_not_told_by_the_wrong_one(tmp_path: Path, symbols: SymbolFiles) -> None:
    verdict = judge((*WITH_CARD, *PANIC[:-1], "ELF file SHA256: 7f3c2a1b0", PANIC[-1]))
    digest = with_elf(symbols, tmp_path)
    files = dict(boot_files(outcome(boot(verdict, "x")), {"gw": digest}, tmp_path, symbols))
    assert "mount_card" not in files["boots/gw-1.txt"]
    assert "can't be resolved: no ELF file is 7f3c2a1b0" in files["boots/gw-1.txt"]


def test_a_boot_that_no_contract_judges_has_its_log_and_its_panics(tmp_path: Path, symbols: SymbolFiles) -> None:
    (tmp_path / LOG).write_bytes(text((*START, *PANIC)))
    digest = with_elf(symbols, tmp_path)
    files = dict(boot_files(outcome(boot(None, "does not run v2: Guru")), {"gw": digest}, tmp_path, symbols))
    assert files[f"logs/{LOG}"].startswith("ets Jul 29 2019")
    assert "panic in line 8: Guru Meditation Error" in files["boots/gw-1.txt"]
    assert "0x400d0001: mount_card" in files["boots/gw-1.txt"]


def test_a_way_back_that_the_contract_would_reject_says_so(tmp_path: Path, symbols: SymbolFiles) -> None:
    files = dict(boot_files(outcome(boot(judge(WITH_CARD, sd="no"), "")), {}, tmp_path, symbols))
    assert files["boots/gw-1.txt"].startswith("attempt 1 of 3: it runs, though its contract rejects it")


def test_what_an_agent_says_of_a_log_leads_nowhere_else(tmp_path: Path, symbols: SymbolFiles) -> None:
    (tmp_path / "secret").write_text("x")
    logs = tmp_path / "logs"
    logs.mkdir()
    files = dict(boot_files(outcome({**boot(None, ""), "log": "../secret"}), {}, logs, symbols))
    assert files == {"boots/gw-1.txt": "attempt 1 of 3: nothing was wrong with it\n"}


def test_a_verdict_that_is_none_is_said_to_be(tmp_path: Path, symbols: SymbolFiles) -> None:
    files = dict(boot_files(outcome({**boot(None, ""), "verdict": {"a": 1}}), {}, tmp_path, symbols))
    assert "its verdict can't be read" in files["boots/gw-1.txt"]
