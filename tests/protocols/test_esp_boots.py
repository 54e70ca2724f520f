"""A simulated board's boots, heard by the agent and judged by the report's contract: good ones, and each fault."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetflash.acceptance.contract_file import read_contract
from fleetflash.agent.acceptance import judge
from fleetflash.agent.acceptance.contract import Contract
from fleetflash.agent.boot_watch import Boot, listen
from fleetflash.agent.port import LineStep
from fleetflash.agent.ports import SerialPort
from fleetflash.agent.protocols.esp_boot_log import HOLD
from fleetflash.cli import main
from fleetflash.lab.display_application import LINES
from fleetflash.lab.esp_image import build_app, build_layout
from tests.protocols.esp_board import EspDevice
from tests.unit.boot_logs import CONTRACT


class TappedPort(SerialPort):
    """EN is the board's button, since a pseudo-terminal has no modem lines."""

    device: EspDevice

    def play(self, steps: list[LineStep]) -> None:
        if steps == HOLD:
            # No button can be held down here: what runs falls silent by itself, unless it is broken.
            until = time.monotonic() + 2.0
            while self.read(4096, 0.3) and time.monotonic() < until:
                pass
        else:
            self.device.do("tap")


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    """The report's, for the short boot of a simulated board."""
    path = tmp_path_factory.mktemp("contract") / CONTRACT.name
    text = CONTRACT.read_text().replace("settle: 5 s ", "settle: 0.7 s ").replace("within: 20 s ", "within: 3 s ")
    path.write_text(text)
    return read_contract(path)


def boards(kind: str, *equipment: str) -> EspDevice:
    app = build_app(kind, "v1.2.3", lines=LINES, size=0x14000)
    return EspDevice(kind, *equipment, image=build_layout(kind, {"factory": app}).merge())


@pytest.fixture(scope="module")
def with_card() -> Iterator[EspDevice]:
    device = boards("esp32s3", "--equipment", "sd=yes")
    yield device
    device.close()


def boot(device: EspDevice, contract: Contract | None, **equipment: str) -> Boot:
    port = TappedPort.open(str(device.tty), offered_by=frozenset({device.process.pid}))
    port.device = device
    try:
        return listen(port, "gateway", contract, equipment)
    finally:
        port.close()


def test_a_boot_with_a_card_is_accepted(with_card: EspDevice, contract: Contract) -> None:
    heard = boot(with_card, contract)
    assert heard.verdict and heard.verdict.accepted, heard.verdict and heard.verdict.summary()
    assert heard.verdict.equipment == {"sd": "yes"} and heard.verdict.starts == 1
    assert heard.found.version == "v1.2.3"


def test_a_boot_without_a_card_is_accepted_and_its_log_judged_again_offline(
    contract: Contract, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = boards("esp32", "--equipment", "sd=no")
    try:
        heard = boot(device, contract, sd="no")
    finally:
        device.close()
    assert heard.verdict and heard.verdict.accepted, heard.verdict and heard.verdict.summary()
    lines = heard.log.splitlines()
    assert lines[0] == b"# fleetflash monitor.log: gateway"
    assert b"] ets Jul 29 2019 12:21:46" in lines[1]
    written = tmp_path / "monitor.log"
    written.write_bytes(heard.log)
    assert main(["accept", str(CONTRACT), str(written)]) == 1  # it was not listened to for five seconds
    out = capsys.readouterr().out
    assert ["settle" in line for line in out.splitlines() if "  FAIL " in line] == [True]


@pytest.mark.parametrize(
    ("fault", "rule", "words"),
    [
        ({"kind": "i2c_errors"}, "IO_Mode Failed: ESP_ERR_INVALID_RESPONSE", "E (950) io_ext: IO_Mode Failed"),
        ({"kind": "panic"}, "panics", "Guru Meditation Error: Core  0 panic'ed (LoadProhibited)"),
        ({"kind": "boot_loop"}, "restarts", "rst:0x3 (RTC_SW_SYS_RST)"),
        ({"kind": "brownout"}, "brownouts", "Brownout detector was triggered"),
        ({"kind": "missing_line", "text": "backoff reset"}, "I2C backoff reset", ""),
    ],
)
def test_a_fault_is_rejected_for_its_rule(
    with_card: EspDevice,
    contract: Contract,
    fault: dict[str, Any],
    rule: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(judge, "AFTERMATH", 0.2)
    with_card.do("fault", count=10_000, **fault)
    verdict = boot(with_card, contract, sd="yes").verdict
    with_card.do("clear_faults")
    assert verdict and not verdict.accepted
    ruling = next(ruling for ruling in verdict.broken if ruling.rule == rule)
    assert words in (ruling.evidence.text if ruling.evidence else "")
    if fault["kind"] == "panic":
        assert any(line.startswith("Backtrace: 0x42000") for line in verdict.panics[0].lines)


def test_a_boot_that_nobody_judges_is_kept_all_the_same(with_card: EspDevice) -> None:
    heard = boot(with_card, None)
    assert heard.verdict is None and heard.found.version == "v1.2.3"
    assert b"] ESP-ROM:esp32s3-20210327\n" in heard.log and b"SD state -> INIT_OK" in heard.log


def test_a_missing_line_needs_its_text(with_card: EspDevice) -> None:
    assert "needs the text" in with_card.ask("fault", kind="missing_line")["error"]
    assert "needs the text" in with_card.ask("fault", kind="panic", text="x")["error"]
