"""What a host tells of a failure is bounded, says what it lacks, and can't be made to read what it must not."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent import evidence, host_environment, kernel_log, log_tail, moonraker_facts, systemd
from fleetflash.agent.schema import (
    Evidence,
    EvidenceRequest,
    Excerpt,
    SchemaError,
    from_json,
    to_json,
)
from fleetflash.agent.store import Store
from tests.unit.test_run_conversation import transaction

ME = os.geteuid()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What programs print, by a word of their command line; all others print nothing."""
    printed: dict[str, list[str]] = {}

    def of_command(command: Sequence[str], lines: int = 200) -> Excerpt:
        text = " ".join(command)
        return Excerpt(text, next((found for word, found in printed.items() if word in text), [])[-lines:])

    monkeypatch.setattr(log_tail, "of_command", of_command)
    return printed


# The end of a log


def test_end_of_a_log_is_bounded_in_lines_and_in_their_length(tmp_path: Path) -> None:
    log = tmp_path / "klippy.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100_000)) + b"x" * 5000 + b"\n\xff\n")
    found = log_tail.of_file(log, ME)
    assert len(found.lines) == log_tail.LINES and found.source == str(log) and not found.error
    assert found.lines[-3:] == ["line 99999", "x" * log_tail.LINE_LENGTH, "\N{REPLACEMENT CHARACTER}"]


def test_line_whose_beginning_was_not_read_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a" * log_tail.WINDOW + b"\nwhole\n")
    assert log_tail.of_file(tmp_path / "log", ME).lines == ["whole"]


def test_root_follows_no_link_and_opens_no_pipe_that_a_user_has_put_there(tmp_path: Path) -> None:
    secret = tmp_path / "shadow"
    secret.write_text("root:hash\n")
    (tmp_path / "link").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "missing"):
        found = log_tail.of_file(tmp_path / name, ME)
        assert found.lines == [] and found.error


def test_file_of_another_user_is_read_only_when_everybody_may(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a\n")
    log.chmod(0o600)
    assert "not everybody may read it" in log_tail.of_file(log, ME + 1).error
    log.chmod(0o644)
    assert log_tail.of_file(log, ME + 1).lines == ["a"]


def test_program_that_is_not_there_or_fails_is_said() -> None:
    assert "No such file" in log_tail.of_command(["fleetflash-has-no-such-program"]).error
    assert log_tail.of_command(["sh", "-c", "echo a; echo b; echo c >&2"], 1) == Excerpt(
        "sh -c echo a; echo b; echo c >&2", ["b"]
    )
    assert log_tail.of_command(["sh", "-c", "echo why >&2; exit 1"]).error == "why"


# The kernel's log

KERNEL = [
    "2026-11-21T20:00:00+0000 h kernel: usb 1-1.2: new full-speed USB device number 5 using xhci_hcd",
    "2026-11-21T20:00:01+0000 h kernel: usb 3-1.2: USB disconnect, device number 5",
    "2026-11-21T20:00:01+0000 h kernel: usb 1-1.21: USB disconnect, device number 6",
    "2026-11-21T20:00:02+0000 h kernel: hwmon hwmon1: Undervoltage detected!",
    "2026-11-21T20:00:03+0000 h kernel: wlan0: associated",
]


def test_kernels_log_is_about_the_ports_socket_power_and_disk(commands: dict[str, list[str]]) -> None:
    commands["journalctl -k"] = KERNEL
    port = "/dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.2:1.0-port0"
    assert kernel_log.about([port]).lines == [KERNEL[0], KERNEL[1], KERNEL[3]]
    assert kernel_log.about([]).lines == [KERNEL[3]]


def test_kernels_own_buffer_is_asked_where_the_journal_has_nothing(commands: dict[str, list[str]]) -> None:
    commands["dmesg"] = KERNEL
    assert kernel_log.about([]).source == "dmesg" and kernel_log.about([]).lines == [KERNEL[3]]


# All of it


@pytest.fixture
def printer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: dict[str, list[str]]) -> Path:
    """A printer_data directory with logs, whose Klipper is stopped."""
    monkeypatch.setattr(systemd, "show", lambda unit, names: {"User": "", "MainPID": "0"})
    monkeypatch.setattr(moonraker_facts, "ask", lambda port: {"version": "v0.9", "klippy": "ready"})
    (tmp_path / "logs").mkdir()
    for name in ("klippy", "moonraker"):
        (tmp_path / f"logs/{name}.log").write_text(f"the end of {name}\n")
    return tmp_path


def ask(printer: Path, **fields: Any) -> Evidence:
    request = EvidenceRequest(**{"socket": str(printer / "comms/klippy.sock"), **fields})
    found = evidence.gather(request, Store(printer / "state"))
    assert from_json(Evidence, to_json(found)) == found
    return found


def test_newest_transaction_and_the_logs_beside_klippys_socket_are_gathered(printer: Path) -> None:
    store = Store(printer / "state")
    for name in ("t-1", "t-2"):
        store.write_transaction(transaction(name))
        store.journal(name).append("begin")
    store.write_outcome("t-2", {"outcome": "restored"})
    found = ask(printer)
    assert found.transaction == "t-2" and [entry["step"] for entry in found.journal] == ["begin"]
    assert found.record["outcome"] == {"outcome": "restored"} and found.record["transaction"]["id"] == "t-2"
    assert ask(printer, transaction="t-1").record["outcome"] is None
    assert found.logs["klippy"].lines == ["the end of klippy"]
    assert found.logs["moonraker"].lines == ["the end of moonraker"]
    assert found.versions["moonraker"] == "v0.9" and found.versions["klippy"].startswith("(")
    assert {"os", "kernel", "python", "disk"} <= set(found.environment)


def test_host_on_which_nothing_ever_ran_has_evidence_too(printer: Path) -> None:
    found = ask(printer)
    assert found.transaction == "" and found.journal == [] and found.logs["klippy"].lines


def test_host_without_klipper_has_no_logs_of_it(printer: Path) -> None:
    assert set(ask(printer, service="", moonraker=0).logs) == {"kernel", "agent"}


def test_without_logs_only_environment_and_versions_are_told(printer: Path) -> None:
    found = ask(printer, logs=False)
    assert found.logs == {} and found.versions["moonraker"] == "v0.9"


@pytest.mark.parametrize("name", ["../../../../etc", "a/b", ".", "-rf"])
def test_transaction_whose_name_leads_elsewhere_is_refused(printer: Path, name: str) -> None:
    with pytest.raises(SchemaError, match="is no name of a transaction"):
        ask(printer, transaction=name)


def test_log_that_the_running_klippy_was_told_to_write_is_read(printer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This very process stands for klippy: what it was started with is what /proc says."""
    monkeypatch.setattr(systemd, "show", lambda unit, names: {"User": "", "MainPID": str(os.getpid())})
    other = printer / "other.log"
    other.write_text("from elsewhere\n")
    words = f"python\0klippy.py\0-l\0{other}\0".encode()
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: words if path.name == "cmdline" else read_bytes(path))
    assert ask(printer).logs["klippy"].lines == ["from elsewhere"]


def test_supply_that_sagged_is_told_where_a_raspberry_pi_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "get_throttled").write_text("50005\n")
    assert "throttled" not in host_environment.describe()
    monkeypatch.setattr(host_environment, "THROTTLED", tmp_path / "get_throttled")
    assert host_environment.describe()["throttled"] == "50005"
