"""The report's boots are accepted; each faulty one is rejected for the right rule, with the line that decided it."""

from pathlib import Path

import pytest

from fleetflash.acceptance.contract_file import read_contract
from fleetflash.agent.acceptance.judge import EquipmentError, Judge
from fleetflash.agent.acceptance.lines import parse
from tests.unit.boot_logs import (
    ABSENT,
    ALIVE,
    CONTRACT,
    INIT_OK,
    IO_MODE,
    OUTPUTS,
    PANIC,
    RESET,
    START,
    WITH_CARD,
    WITHOUT_CARD,
    judge,
)

FAILED = "E (950) io_ext: IO_Mode Failed: ESP_ERR_INVALID_RESPONSE"
CS_HIGH = "W (970) sd_host_extcs: CS HIGH attempt 1 failed: ESP_ERR_INVALID_RESPONSE"
MOUNT_FAIL = "I (1100) sd: SD state -> MOUNT_FAIL"
BROWNOUT = "Brownout detector was triggered"
STREAK = "W (970) i2c_bus_shared: error noted, streak=3"
TOUCH = "E (1200) gt911: touch read failed"
WATCHDOG = "rst:0x10 (RTCWDT_RTC_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)"
OTHER_MASK = "I (960) sd_extcs: SD ExtCS: IOEXT outputs configured (mask=0x0F, CS=IO4 push-pull)"


@pytest.mark.parametrize(("lines", "sd"), [(WITH_CARD, "yes"), (WITHOUT_CARD, "no")])
@pytest.mark.parametrize("told", [True, False])
def test_both_cases_of_the_report_are_accepted(lines: tuple[str, ...], sd: str, told: bool) -> None:
    verdict = judge(lines, **({"sd": sd} if told else {}))
    assert verdict.accepted, verdict.summary()
    assert verdict.equipment == {"sd": sd}
    assert (verdict.starts, verdict.lines, verdict.seconds) == (1, len(lines), 9.0)


@pytest.mark.parametrize(
    ("lines", "rule", "words", "deciding"),
    [
        pytest.param(
            (*START, RESET, FAILED, CS_HIGH, MOUNT_FAIL, ALIVE),
            "IO_Mode Failed: ESP_ERR_INVALID_RESPONSE",
            "must not come",
            (9, FAILED, 0.95),
            id="the report's symptom",
        ),
        pytest.param((*START, IO_MODE, OUTPUTS, INIT_OK, ALIVE), "I2C backoff reset", "never came", None, id="missing"),
        pytest.param(
            (*START, IO_MODE, RESET, OUTPUTS, INIT_OK, ALIVE),
            "IO expander set up",
            "came without 'I2C backoff reset' before it",
            (8, IO_MODE, 0.95),
            id="wrong order",
        ),
        pytest.param(
            (*START, RESET, IO_MODE, INIT_OK, ALIVE),
            "SD ExtCS: IOEXT outputs configured (mask=0xFF, CS=IO4 push-pull)",
            "never came",
            None,
            id="outputs not configured",
        ),
        pytest.param(
            (*START, RESET, IO_MODE, OTHER_MASK, INIT_OK, ALIVE),
            "SD ExtCS: IOEXT outputs configured (mask=0xFF, CS=IO4 push-pull)",
            "never came",
            None,
            id="another mask",
        ),
        pytest.param(
            (*START, RESET, IO_MODE.replace("attempt 1", "attempt 2"), OUTPUTS, INIT_OK, ALIVE),
            "IO expander set up",
            "never came",
            None,
            id="second attempt",
        ),
        pytest.param(
            (*START, RESET, IO_MODE, CS_HIGH, OUTPUTS, INIT_OK, ALIVE),
            "chip select of the card",
            "must not come",
            (10, CS_HIGH, 0.97),
            id="chip select",
        ),
        pytest.param(
            (*START, RESET, IO_MODE, OUTPUTS, MOUNT_FAIL, INIT_OK, ALIVE),
            "SD card lost",
            "must not come",
            (11, MOUNT_FAIL, 1.1),
            id="mounted at the second try",
        ),
        pytest.param(
            (*START, RESET, STREAK, IO_MODE, OUTPUTS, INIT_OK, ALIVE),
            "I2C errors in a row",
            "found 3, expected at most 0",
            (9, STREAK, 0.97),
            id="streak",
        ),
        pytest.param(
            (*START, RESET, IO_MODE, OUTPUTS, INIT_OK, TOUCH, ALIVE),
            "touch controller",
            "must not come",
            (12, TOUCH, 1.2),
            id="touch",
        ),
        pytest.param(
            (*WITH_CARD, *PANIC, *WITH_CARD),
            "restarts",
            "restarted 1 times",
            (23, START[2], 9.0),
            id="panic and restart",
        ),
        pytest.param((*WITH_CARD, *PANIC), "panics", "must not come", (13, PANIC[0], 9.0), id="panic at the end"),
        pytest.param((*WITH_CARD, BROWNOUT), "brownouts", "must not come", (13, BROWNOUT, 9.0), id="brownout"),
        pytest.param(
            (*START, RESET, WATCHDOG, *WITH_CARD), "restarts", "restarted 2 times", (9, WATCHDOG, 0.9), id="watchdog"
        ),
        pytest.param(
            (*START, RESET, IO_MODE, OUTPUTS, INIT_OK.replace("1100", "20100"), "I (30000) main: alive"),
            "SD state -> INIT_OK",
            "too late: 20 s allowed",
            (11, INIT_OK.replace("1100", "20100"), 20.1),
            id="late",
        ),
        pytest.param(WITH_CARD[:-1], "settle", "listened for 0.0 s after", None, id="log ends too early"),
        pytest.param(
            (*START, RESET, IO_MODE, OUTPUTS, INIT_OK, ABSENT, ALIVE),
            "equipment sd",
            "line 11 shows yes, but this line shows no",
            (12, ABSENT, 1.1),
            id="card lost later",
        ),
        pytest.param(
            (*START, RESET, IO_MODE, OUTPUTS, ALIVE), "equipment sd", "nothing shows", None, id="no card state"
        ),
        pytest.param(START, "I2C backoff reset", "never came", None, id="the application stays silent"),
    ],
)
def test_a_faulty_log_is_rejected_for_its_rule(
    lines: tuple[str, ...], rule: str, words: str, deciding: tuple[int, str, float] | None
) -> None:
    verdict = judge(lines)
    assert not verdict.accepted
    ruling = next(ruling for ruling in verdict.rulings if ruling.rule == rule)
    assert not ruling.met and words in ruling.reason, ruling
    found = ruling.evidence
    assert (found and (found.number, found.text, found.seconds)) == deciding
    assert ruling in verdict.broken and verdict.summary()


def test_the_summary_tells_what_went_wrong_first() -> None:
    looping = judge((*START, RESET, *PANIC, *START, RESET, *PANIC, *START))
    assert [ruling.rule for ruling in looping.broken][:2] == ["restarts", "panics"]
    first = "'panics' (io-expander-sd.yaml): must not come; line 9 at 0.900 s: Guru Meditation"
    assert looping.summary().startswith(first)
    silent = judge((*START, RESET, IO_MODE, OUTPUTS, ALIVE))
    assert silent.summary().startswith("'equipment sd' (io-expander-sd.yaml:27): nothing shows")


def test_what_the_board_s_data_say_is_judged_whatever_the_log_shows() -> None:
    verdict = judge(WITHOUT_CARD, sd="yes")
    ruling = verdict.broken[0]
    assert ruling.rule == "equipment sd" and "data say yes, but this line shows no" in ruling.reason
    assert ruling.evidence and ruling.evidence.text == ABSENT


def test_equipment_that_the_contract_does_not_know_is_an_error() -> None:
    contract = read_contract(CONTRACT)
    with pytest.raises(EquipmentError, match=r"equipment 'ssd': io-expander-sd.yaml has sd"):
        Judge(contract, {"ssd": "yes"})
    with pytest.raises(EquipmentError, match=r"sd = 'maybe': io-expander-sd.yaml expects yes or no"):
        Judge(contract, {"sd": "maybe"})


def test_what_was_said_before_the_reset_is_neither_praised_nor_blamed() -> None:
    verdict = judge((FAILED, RESET, *WITH_CARD))
    assert verdict.accepted, verdict.summary()
    assert verdict.notes == ["2 lines before the first reset are not judged"]
    assert not judge((RESET, *START, IO_MODE, OUTPUTS, INIT_OK, ALIVE)).accepted


def test_lines_of_a_start_that_was_given_up_do_not_count() -> None:
    lines = (*START, RESET, IO_MODE, *START, OUTPUTS, INIT_OK, ALIVE)
    broken = [ruling.rule for ruling in judge(lines).broken]
    assert broken[:3] == ["restarts", "I2C backoff reset", "IO expander set up"]


def test_a_boot_without_the_rom_s_words_is_judged_by_the_bootloader_s() -> None:
    quiet = WITH_CARD[4:]
    assert judge(quiet).starts == 1 and judge(quiet).accepted
    assert judge((*quiet, *quiet)).starts == 2 and not judge((*quiet, *quiet)).accepted


def test_a_silent_application_is_accepted_when_it_is_known_how_long_it_was_listened_to() -> None:
    assert not judge(WITH_CARD[:-1]).accepted
    assert judge(WITH_CARD[:-1], listened=6.2).accepted
    assert not judge(WITH_CARD[:-1], listened=5.9).accepted


def test_a_log_without_any_time_can_not_keep_deadlines(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text("contract: 1\nwithin: 5 s\nsettle: 0\nany_order: [ready]\n")
    judge = Judge(read_contract(path))
    judge.hear(parse(1, "ready"))
    assert "tells no times" in judge.verdict().summary()
    assert judge.verdict(listened=1.0).accepted


def test_colours_and_line_ends_are_no_part_of_a_line() -> None:
    assert judge([f"\x1b[0;32m{line}\x1b[0m" for line in WITH_CARD]).accepted


def test_the_judge_knows_when_it_has_heard_enough() -> None:
    judge = Judge(read_contract(CONTRACT), {"sd": "yes"})
    for number, line in enumerate(WITH_CARD[:-1], 1):
        judge.hear(parse(number, line, number / 10))
        assert not judge.done(number / 10)
    assert not judge.done(6.0)
    assert judge.done(6.11)
    assert judge.verdict(6.11).accepted


def test_a_board_that_says_nothing_is_given_up_at_its_first_deadline() -> None:
    judge = Judge(read_contract(CONTRACT))
    assert not judge.done(19.9)
    assert judge.done(20.0)


def test_after_what_decides_a_rejection_its_explanation_is_waited_for() -> None:
    judge = Judge(read_contract(CONTRACT))
    judge.hear(parse(1, FAILED, 1.0))
    assert not judge.done(2.9)
    assert judge.done(3.1)


def test_panics_are_kept_up_to_their_restart() -> None:
    verdict = judge((*WITH_CARD, *PANIC, *START))
    assert [panic.number for panic in verdict.panics] == [13]
    assert verdict.panics[0].lines == list(PANIC[:-1])
