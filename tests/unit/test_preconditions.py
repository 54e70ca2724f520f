"""A port that no longer is what the plan saw refuses the transaction before anything is touched."""

from typing import Any

import pytest

from fleetflash.agent import devices, preconditions
from fleetflash.agent.preconditions import RefusalError
from fleetflash.agent.schema import BoardTransaction, Entry, Firmware, Image
from fleetflash.agent.tools import environment

BY_ID, BY_PATH = "/dev/serial/by-id/usb-Klipper_x-if00", "/dev/serial/by-path/usb-0:1.2"


def transaction_of(**fields: Any) -> BoardTransaction:
    described: dict[str, Any] = {
        "name": "toolhead",
        "port": BY_ID,
        "device": "/dev/ttyACM1",
        "chip": "stm32f103xb",
        "chip_ids": ["stm32f103xe"],
        "flash_size": 4096,
        "programmer": "katapult",
        "entry": Entry("request"),
        "expected": Firmware("none"),
        "wanted": Image("a", "1" * 64, 1, "v2"),
        "way_back": None,
        "by_path": BY_PATH,
        **fields,
    }
    return BoardTransaction(**described)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Where names lead."""
    found: dict[str, list[str]] = {BY_PATH: ["/dev/ttyACM1"]}
    monkeypatch.setattr(devices, "candidates", lambda port, ports: found.get(port, []))
    monkeypatch.setattr(preconditions, "holders", lambda device: [])
    return found


def test_board_that_still_waits_in_its_bootloader_is_where_the_plan_saw_it(places: dict[str, list[str]]) -> None:
    preconditions._check_port(transaction_of(), [], 0)
    places[BY_ID] = ["/dev/ttyACM0"]
    with pytest.raises(RefusalError, match="now is /dev/ttyACM0, the plan saw /dev/ttyACM1; run again"):
        preconditions._check_port(transaction_of(), [], 0)


def test_board_that_keeps_its_name_is_absent_without_it(places: dict[str, list[str]]) -> None:
    with pytest.raises(RefusalError, match="now is absent, the plan saw /dev/ttyACM1"):
        preconditions._check_port(transaction_of(programmer="wch_isp"), [], 0)


def test_a_tool_that_only_the_login_has_is_refused_before_anything_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    def find() -> environment.Environment:
        raise environment.ToolError("no esptool here")

    monkeypatch.setattr(environment, "find", find)
    with pytest.raises(RefusalError, match="toolhead: no esptool here; nothing was stopped"):
        preconditions._check_tool(transaction_of(programmer="esptool", tool=True))
    preconditions._check_tool(transaction_of(programmer="esptool", tool=True, placement="controller"))
    preconditions._check_tool(transaction_of())
