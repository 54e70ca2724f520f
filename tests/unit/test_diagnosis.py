"""A failure is told in one paragraph: where, at which step, which known cause, how it stands, and what to do next."""

import re
from typing import Any

import pytest

from fleetflash.incident.causes import CAUSES, SIGNS
from fleetflash.incident.diagnosis import UNKNOWN, diagnose

BEGAN = 1_795_000_000.0
LATER, EARLIER = "2026-11-18T11:47:20+00:00", "2026-11-18T09:00:00+00:00"


def journal(*steps: str, error: str = "x", board: str = "bmcu") -> list[dict[str, Any]]:
    """A journal that ends with the failure of a board, one second a step."""
    host_steps = ("begin", "guarded", "stopping", "starting", "checking")
    entries = [{"step": step, **({} if step in host_steps else {"board": board})} for step in (*steps, "failed")]
    for second, entry in enumerate(entries):
        entry |= {"time": BEGAN + second, "monotonic": 100.0 + second, "boot": "b"}
    entries[-1]["error"] = error
    return entries


def outcome(result: str = "restored", detail: str = "", board: str = "bmcu") -> dict[str, Any]:
    return {"outcome": result, "detail": detail, "boards": {board: {"result": result, "detail": detail}}}


#: (what the flasher, klippy or systemd says, the cause that it must be)
SAID = [
    ("gw on /dev/p: its boot is rejected by 'ready' (boot.yaml:6): never came (in 3 attempts)", "boot-rejected"),
    ("gw on /dev/p: its boot is rejected by 'sd' (b.yaml:6): came; line 3: held by pid 7 (x)", "boot-rejected"),
    ("gw on /dev/p: its boot is rejected by 'brownouts' (b.yaml): must not come; line 9: Brownout", "brown-out"),
    ("gw on /dev/p: does not run v2: Brownout detector was triggered", "brown-out"),
    ("gw on /dev/p: its boot is rejected by 'panics' (b.yaml): must not come; line 9: Guru Meditation", "panic"),
    ("gw on /dev/p: does not run v2: abort() was called at PC 0x400d0032", "panic"),
    ("gw on /dev/p: does not run v2: it restarts again and again (rst:0xc (SW_CPU_RESET))", "does-not-run"),
    ("bmcu: backup_command /usr/bin/save ended with exit code 3, so nothing was erased; it said: x", "backup-command"),
    ("/dev/p: esptool ended: MemoryError", "tool-died"),
    ("/dev/p: esptool says nothing for 60 s and was ended", "tool-died"),
    ("bmcu on /dev/p: found chip 19:31, expected 19:30 (ch32v203c8u6); nothing was erased. Correct", "wrong-chip"),
    ("bmcu on /dev/p: found the board with unique id aabb, expected ccdd; nothing was erased", "wrong-board"),
    ("bmcu on /dev/p: the chip is read-protected; lifting that erases it", "protected"),
    ("/dev/ttyUSB0: program at 0x0000: the chip is read-protected (status f5)", "protected"),
    ("bmcu: /dev/ttyUSB0 is held by process 412 (python3 -c x); end it", "port-held"),
    ("/dev/ttyUSB0: in use by pid 412 (cat); stop it first", "port-held"),
    ("h: sudo refused (sudo: a password is required); allow this user `NOPASSWD: ALL`", "sudo-missing"),
    ("/dev/ttyUSB0: verify at 0x3a98: the flash differs from the image, or is read-protected", "verify-mismatch"),
    ("bmcu on /dev/p: runs v0.11.0, expected v0.12.0", "wrong-version"),
    ("bmcu on /dev/p: boots v1.0.0, expected v1.0.1", "wrong-version"),
    ("bmcu on /dev/p: runs v1 with CLOCK_FREQ = 1, expected 2", "wrong-build"),
    ("bmcu on /dev/p: does not say what it runs (no Klipper firmware answers identify)", "does-not-run"),
    ("klippy is not ready: state error: mcu 'mcu': Unable to connect", "klippy-not-ready"),
    ("no answer within 1 s. Its power could not be cycled: x; it may be switched off still: switch", "switched-off"),
    ("object output_pin relay: value is 1, expected 0", "objects"),
    ("[Errno 28] No space left on device: '/var/lib/fleetflash/x'", "disk-full"),
    ("/var/lib/fleetflash/images/a.bin: expected sha256 aa, found bb", "image-damaged"),
    ("klippy's C helper differs in the wanted version, and there is no gcc that could build it", "toolchain-missing"),
    ("no esptool in /var/lib/fleetflash/tools; install it as root: python3 -m venv", "tool-missing"),
    ("/dev/p: nobody brought the board into its bootloader within 120 s", "nobody-pressed"),
    ("/dev/p: the board did not enter its ISP bootloader (all 8 wirings of DTR and RTS tried)", "no-bootloader"),
    ("/dev/p: unplugged or restarted while in use; check cable and power, then `dmesg`", "unplugged"),
    ("/dev/p: program at 0x3a98: refused with status fe", "refused"),
    ("/dev/p: program at 0x3a98: no answer within 1 s", "silent"),
    ("/dev/p: erase: wrong checksum in 55aa", "garbled"),
    ("bmcu: the controller's session was lost while it wrote the board", "controller-lost"),
    ("systemctl start klipper.service: Job failed", "service-failed"),
    ("interrupted while it was being written", "interrupted"),
    ("the moon is full", UNKNOWN),
]  # fmt: skip


@pytest.mark.parametrize(("error", "cause"), SAID)
def test_known_cause_is_named_and_the_next_action_is_given(error: str, cause: str) -> None:
    found = diagnose("printer-1", outcome(detail=error), journal("begin", "entering", "writing", error=error))
    assert found.cause == cause
    assert error in found.text and found.next
    assert UNKNOWN not in found.next and "{" not in found.text + found.next


def test_every_known_cause_is_shown_by_one_of_these_messages() -> None:
    assert {cause.name for cause in CAUSES} - {cause for _, cause in SAID} == {"host-lost"}


def test_patterns_are_valid_and_their_words_are_filled_in() -> None:
    for cause in (*CAUSES, *SIGNS):
        groups = set(re.compile(cause.pattern).groupindex) | {"host", "board", "line"}
        used = set(re.findall(r"{(\w+)}", cause.says + cause.next))
        assert used <= groups, cause.name


def test_paragraph_names_host_board_step_time_and_how_it_stands() -> None:
    error = "/dev/ttyUSB0: verify at 0x3a98: the flash differs from the image, or is read-protected"
    ended = {**outcome(detail=error), "downtime": 7.5}
    found = diagnose("printer-1", ended, journal("begin", "guarded", "stopping", "entering", "writing", error=error))
    assert found.step == "writing"
    assert found.text.startswith("printer-1/bmcu failed while it was written, 5.0 s after the transaction began: ")
    assert "offset 0x3a98" in found.text
    assert found.text.endswith("bmcu runs its former firmware again. Klipper was down 7.5 s.")


def test_step_is_the_failed_boards_own_and_not_that_of_its_neighbour() -> None:
    entries = journal("begin", "entering", board="b", error="no answer within 1 s")
    entries.insert(2, {**entries[1], "step": "writing", "board": "a"})
    assert diagnose("h", outcome(board="b"), entries).step == "entering"


def test_failure_of_a_transaction_that_died_is_told_from_its_outcome() -> None:
    entries = journal("begin", "guarded", "entering", "writing")[:-1]
    entries.append({"step": "settling", "time": BEGAN + 60, "monotonic": 3.0, "boot": "c"})
    found = diagnose("h", outcome(detail="interrupted while it was being written"), entries)
    assert (found.step, found.cause) == ("writing", "interrupted")
    assert "after the transaction began" not in found.text


def test_brown_out_in_the_kernels_log_is_told_beside_the_cause_if_it_is_of_this_transaction() -> None:
    entries = journal("begin", "writing", error="no answer within 1 s")
    now = f"{LATER} host kernel: hwmon hwmon1: Undervoltage detected!"
    before = now.replace(LATER, EARLIER)
    found = diagnose("h", outcome(), entries, {"kernel": [before, now]})
    assert found.cause == "silent" and now in found.text and "stronger supply" in found.next
    assert "Undervoltage" not in diagnose("h", outcome(), entries, {"kernel": [before]}).text
    assert "Undervoltage" not in diagnose("h", outcome(), entries, {"klippy": [now]}).text


def test_usb_disconnect_says_nothing_of_a_board_that_was_verified_wrong() -> None:
    kernel = {"kernel": [f"{LATER} host kernel: usb 1-1.2: USB disconnect, device number 5"]}
    assert (
        "USB disconnect"
        in diagnose("h", outcome(), journal("begin", error="unplugged or restarted while in use"), kernel).text
    )
    assert "USB disconnect" not in diagnose("h", outcome(), journal("begin", error="runs v1, expected v2"), kernel).text


def test_board_that_needs_a_person_is_said_to() -> None:
    found = diagnose("h", outcome("needs-attention", "refused with status fe"))
    assert "needs a person" in found.text and found.step == ""
