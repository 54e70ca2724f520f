"""A gateway's boot in a transaction: tried as often as its contract allows, kept, and told with the outcome."""

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetflash.acceptance.contract_file import read_contract
from fleetflash.agent import board as board_module
from fleetflash.agent import history, own_word, patience
from fleetflash.agent.acceptance.contract import POWER_CYCLE, Contract
from fleetflash.agent.board import BoardOnPort, SilentFirmwareError, WrongFirmwareError
from fleetflash.agent.boot_watch import Boot
from fleetflash.agent.boots import Boots, hardware, remark
from fleetflash.agent.own_word import OwnWord
from fleetflash.agent.power_cycle import PowerCycle
from fleetflash.agent.protocols.esp_boot_log import BootLog
from fleetflash.agent.record import Record
from fleetflash.agent.schema import BoardTransaction, Entry, Firmware, Image, Power
from fleetflash.agent.store import Store
from fleetflash.report import monitor_logs
from tests.unit.boot_logs import CONTRACT, WITH_CARD, WITHOUT_CARD, judge
from tests.unit.transaction_host import make_host

IMAGE = Image("a", "1" * 64, 1, "v2", klipper=False, esp=True)
FORMER = replace(IMAGE, sha256="2" * 64, version="v1")
GOOD, BAD = judge(WITH_CARD), judge(WITHOUT_CARD, sd="yes")
V2 = BootLog("v2")


def gateway(contract: Contract | None) -> BoardTransaction:
    return BoardTransaction(
        name="gateway",
        port="/dev/ttyUSB0",
        device="/dev/ttyUSB0",
        chip="esp32",
        chip_ids=["esp32"],
        flash_size=4 << 20,
        programmer="esptool",
        entry=Entry("lines"),
        expected=Firmware("none"),
        wanted=IMAGE,
        way_back=FORMER,
        contract=contract,
        equipment={"sd": "yes"} if contract else {},
    )


class Bench:
    """``boots``: what each reset of the board brings, the last one for ever; ``events``: what was done, in order."""

    def __init__(self, boots: list[Boot], contract: Contract | None) -> None:
        self.boots = boots
        self.events: list[str] = []
        self.kept: list[tuple[int, int, str]] = []
        self.board = BoardOnPort(gateway(contract), self.open, keep_boot=self.keep)
        self.judged_by: list[tuple[bool, dict[str, str]]] = []

    def open(self, device: str, baud: int) -> Any:
        self.events.append("open")
        return self

    def close(self) -> None:
        self.events.append("close")

    def listen(self, port: Any, title: str, contract: Contract | None, equipment: dict[str, str]) -> Boot:
        self.events.append("reset")
        self.judged_by.append((contract is not None, equipment))
        return self.boots.pop(0) if len(self.boots) > 1 else self.boots[0]

    def keep(self, boot: Boot, attempt: int, of: int, reason: str) -> None:
        self.kept.append((attempt, of, reason))

    def check(self) -> None:
        """As a transaction does, for a board that can be switched off and on once."""

        class Switch(PowerCycle):
            def __init__(self, bench: Bench) -> None:
                self.bench = bench

            def times(self, name: str) -> int:
                return self.bench.events.count("power cycle")

            def helps(self, name: str, error: Exception, forward: bool = False) -> bool:
                board = self.bench.board.board
                if board.power is None or self.times(name) >= patience.forward_cycles(board):
                    return False
                self.bench.events.append("power cycle")
                return True

        OwnWord({"gateway": self.board}, Switch(self), lambda: None).check(self.board)


def bench(monkeypatch: pytest.MonkeyPatch, *boots: Boot, contract: bool = True) -> Bench:
    bench = Bench(list(boots), read_contract(CONTRACT) if contract else None)
    monkeypatch.setattr(board_module, "listen", bench.listen)
    monkeypatch.setattr(own_word.time, "sleep", lambda seconds: bench.events.append(f"pause {seconds:g}"))
    monkeypatch.setattr(BoardOnPort, "_device", lambda board: "/dev/ttyUSB0")
    return bench


ONE_BOOT = ["open", "reset", "close"]


def test_a_boot_that_is_accepted_at_once_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at = bench(monkeypatch, Boot(V2, b"", GOOD))
    at.check()
    assert at.events == ONE_BOOT
    assert at.kept == [(1, 3, "")] and at.judged_by == [(True, {"sd": "yes"})]


def test_a_rejected_boot_is_tried_again_after_a_pause_and_each_attempt_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    at = bench(monkeypatch, Boot(V2, b"", BAD), Boot(V2, b"", BAD), Boot(V2, b"", GOOD))
    at.check()
    assert at.events == [*ONE_BOOT, "pause 2", *ONE_BOOT, "pause 2", *ONE_BOOT]
    assert at.kept == [(1, 3, BAD.summary()), (2, 3, BAD.summary()), (3, 3, "")]


def test_a_boot_that_is_never_accepted_is_told_with_the_deciding_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = bench(monkeypatch, Boot(V2, b"", BAD))
    with pytest.raises(SilentFirmwareError) as wrong:
        at.check()
    assert len(at.kept) == 3
    assert str(wrong.value).startswith("gateway on /dev/ttyUSB0: its boot is rejected by 'equipment sd'")
    assert "line 10 at 1.100 s: I (1100) sd: SD state -> ABSENT" in str(wrong.value)
    assert str(wrong.value).endswith("(in 3 attempts)")


def test_a_board_whose_boots_are_all_rejected_has_one_more_after_a_power_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    at = bench(monkeypatch, *[Boot(V2, b"", BAD)] * 3, Boot(V2, b"", GOOD))
    at.board.board = replace(at.board.board, power=Power(device="relay"))
    at.check()
    assert at.events[-5:] == ["power cycle", "pause 2", *ONE_BOOT] and at.events.count("power cycle") == 1
    assert [kept[:2] for kept in at.kept] == [(1, 3), (2, 3), (3, 3), (4, 4)]


def test_a_board_that_power_does_not_mend_is_given_up_after_the_one_attempt_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = bench(monkeypatch, Boot(V2, b"", BAD))
    at.board.board = replace(at.board.board, power=Power(device="relay"))
    with pytest.raises(SilentFirmwareError, match=r"\(in 4 attempts\)$"):
        at.check()
    assert len(at.kept) == 4 and at.events.count("power cycle") == 1


def test_a_contract_may_have_the_power_cycled_between_all_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    at = bench(monkeypatch, Boot(V2, b"", BAD))
    assert at.board.board.contract is not None
    retry = replace(at.board.board.contract.retry, recovery=POWER_CYCLE)
    contract = replace(at.board.board.contract, retry=retry)
    at.board.board = replace(at.board.board, power=Power(device="relay"), contract=contract)
    with pytest.raises(SilentFirmwareError, match=r"\(in 3 attempts\)$"):
        at.check()
    between = ["power cycle", "pause 2"]
    assert at.events == [*ONE_BOOT, *between, *ONE_BOOT, *between, *ONE_BOOT]
    assert [kept[:2] for kept in at.kept] == [(1, 3), (2, 3), (3, 3)]
    # What the way forward has used up is not taken from the way back.
    assert patience.most_cycles(at.board.board) == 3


def test_another_version_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    at = bench(monkeypatch, Boot(BootLog("v1"), b"", GOOD))
    with pytest.raises(WrongFirmwareError, match="boots v1, expected v2"):
        at.check()
    assert at.kept == [(1, 3, "boots v1, expected v2")]


def test_what_the_contract_says_of_a_way_back_is_kept_and_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    at = bench(monkeypatch, Boot(BootLog("v1"), b"", BAD))
    at.board.check_runs(FORMER)
    assert at.judged_by == [(True, {"sd": "yes"})] and at.kept == [(1, 1, "")]
    at = bench(monkeypatch, Boot(BootLog("v1", trouble="Guru Meditation Error"), b"", BAD))
    with pytest.raises(SilentFirmwareError, match=r"does not run v1: Guru Meditation Error$"):
        at.board.check_runs(FORMER)


def test_a_way_back_that_is_rejected_too_points_at_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = make_host(tmp_path, monkeypatch, "gateway")
    record = Record(host.transaction(), host.store)
    Boots(record, "gateway").keep(Boot(V2, b"", BAD), 1, 1, "")
    kept = history.boots(record.entries())["gateway"]
    assert kept[0]["accepted"] and "would reject it: 'equipment" in record.entries()[0]["said"]
    assert hardware(kept).startswith("the firmware it was taken back to runs, but io-expander-sd.yaml does not accept")
    Boots(record, "gateway").keep(Boot(V2, b"", GOOD), 1, 1, "")
    assert hardware(history.boots(record.entries())["gateway"]) == hardware([]) == ""


def test_trouble_without_a_contract_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    at = bench(monkeypatch, Boot(BootLog("v2", trouble="Brownout detector was triggered"), b""), contract=False)
    with pytest.raises(WrongFirmwareError, match="does not run v2: Brownout detector"):
        at.board.check_runs(IMAGE)


def test_boots_are_kept_in_the_transaction_s_directory_for_root_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(tmp_path, monkeypatch, "gateway")
    whole = host.transaction()
    host.store.write_transaction(whole)
    record = Record(whole, host.store)
    boots = Boots(record, "gateway")
    boots.keep(Boot(V2, b"first", BAD), 1, 2, BAD.summary())
    boots.keep(Boot(V2, b"second", GOOD), 2, 2, "")
    directory = host.store.transaction_directory(whole.id)
    logs = [directory / f"monitor-gateway-{number}.log" for number in (1, 2)]
    assert [log.read_bytes() for log in logs] == [b"first", b"second"]
    assert [stat.S_IMODE(log.stat().st_mode) for log in logs] == [0o600, 0o600]
    entries = [entry for entry in record.entries() if entry["step"] == "booted"]
    assert [(entry["log"], entry["attempt"], entry["accepted"]) for entry in entries] == [
        ("monitor-gateway-1.log", 1, False),
        ("monitor-gateway-2.log", 2, True),
    ]
    assert entries[1]["said"] == "accepted by io-expander-sd.yaml"
    kept = history.boots(record.entries())["gateway"]
    assert kept[0]["verdict"]["rulings"][0]["rule"] == "restarts"
    assert remark(kept).startswith("its boot was accepted at attempt 2 of 2; at first: 'equipment")


def test_a_boot_that_can_not_be_kept_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = make_host(tmp_path, monkeypatch, "gateway")
    whole = host.transaction()
    host.store.write_transaction(whole)
    record = Record(whole, host.store)

    def full(path: Path, data: bytes, mode: int = 0o644) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fleetflash.agent.boots.disk.write_file", full)
    Boots(record, "gateway").keep(Boot(V2, b"x", GOOD), 1, 1, "")
    assert [entry["step"] for entry in record.entries()] == ["monitor-lost", "booted"]


def test_a_boot_that_was_accepted_at_once_needs_no_remark() -> None:
    assert remark([]) == ""
    assert remark([{"attempt": 1, "of": 3, "accepted": True, "reason": ""}]) == ""
    rejected = {"attempt": 1, "of": 1, "accepted": False, "reason": "panics"}
    assert remark([rejected, {"attempt": 1, "of": 1, "accepted": True, "reason": ""}]) == ""  # its way back
    only_power_helped = remark([rejected, {"attempt": 2, "of": 2, "accepted": True, "reason": ""}])
    assert only_power_helped == "its boot was accepted at attempt 2 of 2; at first: panics"


def test_logs_are_kept_on_the_controller_for_the_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(monitor_logs.ENVIRONMENT, str(tmp_path / "logs"))
    names = ("../escape.log", "monitor-gateway-1.log", "monitor-../x-1.log", "other")
    place = monitor_logs.keep("desk", "t-1", dict.fromkeys(names, b"x"))
    assert place == tmp_path / "logs" / "desk" / "t-1"
    assert [path.name for path in place.iterdir()] == ["monitor-gateway-1.log"]
    assert stat.S_IMODE((place / "monitor-gateway-1.log").stat().st_mode) == 0o600
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert monitor_logs.keep("desk", "t-2", {}) is None and not (tmp_path / "logs" / "desk" / "t-2").exists()


def test_a_state_directory_that_is_relative_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(monitor_logs.ENVIRONMENT, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert monitor_logs.directory("desk", "t") == Path("~/.local/state/fleetflash/logs/desk/t").expanduser()


def test_pruning_takes_the_logs_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = make_host(tmp_path, monkeypatch, "gateway")
    store = Store(host.store.root)
    monkeypatch.setattr("fleetflash.agent.store.KEPT_TRANSACTIONS", 1)
    for number in (1, 2):
        whole = replace(host.transaction(), id=f"t-{number}")
        store.write_transaction(whole)
        Boots(Record(whole, store), "gateway").keep(Boot(V2, b"x", GOOD), 1, 1, "")
        store.write_outcome(whole.id, {"outcome": "committed"})
    store.prune()
    assert [path.name for path in (store.root / "transactions").iterdir()] == ["t-2"]


def test_the_outcome_has_the_boots_even_if_the_transaction_died_after_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(tmp_path, monkeypatch, "gateway")
    whole = host.transaction()
    runner = host.begin(whole)
    runner.record.log("guarded")
    Boots(runner.record, "gateway").keep(Boot(V2, b"x", BAD), 1, 2, BAD.summary())
    host.after_death(whole)
    assert [boot["reason"] for boot in host.outcome()["boards"]["gateway"]["boots"]] == [BAD.summary()]
