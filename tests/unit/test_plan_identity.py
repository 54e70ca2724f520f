"""A board is the one that was met before, or the plan refuses and names both, as far as nobody has to open its port."""

import dataclasses
from typing import Any

from fleetflash.agent.schema import Firmware
from fleetflash.firmware.artifact import Artifact
from fleetflash.plan import Action, BoardPlan, HostPlan
from tests.unit.observed import OLD, artifact, board, facts, ledger, plan, snapshot


def only(found: HostPlan) -> BoardPlan:
    (board_plan,) = found.boards
    return board_plan


USB_BOARD: dict[str, Any] = {"programmer": "katapult", "chip": "stm32f446xe", "flash_offset": 0x8000}
BY_ID = "/dev/serial/by-id/usb-Klipper_stm32f446xx_2A00-if00"


def for_usb(version: str) -> Artifact:
    """An image for ``USB_BOARD``."""
    found = artifact(version)
    file = found.files[0].model_copy(update={"offset": 0x8000})
    return found.model_copy(update={"chip": "stm32f446xe", "files": (file,), "labels": ("factory",)})


def plan_usb(uid: str = "", **seen: Any) -> HostPlan:
    described = facts(firmware=Firmware("none"), **seen)
    wanted = board(port=BY_ID, uid=uid, **USB_BOARD)
    return plan(snapshot(described), wanted, artifacts=(for_usb("v1"), for_usb("v2")))


def test_another_board_on_usb_is_refused_before_its_port_is_opened_naming_both() -> None:
    met = dataclasses.replace(ledger(OLD, uid="aa"), chip="stm32f446xe")
    refused = only(plan_usb(ledger=met, uid="", device="/dev/ttyACM0", candidates=["/dev/ttyACM0"]))
    assert refused.action is Action.FLASH  # nothing is known of what is there
    for named in ("aa", ""):
        seen = dataclasses.replace(facts(firmware=Firmware("none"), ledger=met), uid="bb")
        found = only(plan(snapshot(seen), board(port=BY_ID, uid=named, **USB_BOARD), artifacts=(for_usb("v2"),)))
        assert found.action is Action.REFUSE
        assert "unique id bb, expected aa" in found.reason and "set uid = 'bb'" in found.reason
    seen = dataclasses.replace(facts(firmware=Firmware("none"), ledger=met), uid="bb")
    accepted = plan(snapshot(seen), board(port=BY_ID, uid="bb", **USB_BOARD), artifacts=(for_usb("v1"), for_usb("v2")))
    assert only(accepted).action is Action.FLASH


def test_board_without_unique_id_that_is_somewhere_else_is_refused_naming_both_places() -> None:
    here, there = "/dev/serial/by-path/bmcu", "/dev/serial/by-path/elsewhere"
    by_id = board(port="/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0")
    met = dataclasses.replace(ledger(OLD), by_path=there)
    refused = only(plan(snapshot(facts(ledger=met)), by_id))
    assert refused.action is Action.REFUSE
    assert (
        f"is at {here}, but the board was met at {there}" in refused.reason
        and f"name its port {here}" in refused.reason
    )
    assert only(plan(snapshot(facts(ledger=met)), board(port=here))).action is Action.FLASH
    same = dataclasses.replace(met, by_path=here)
    assert only(plan(snapshot(facts(ledger=same)), by_id)).action is Action.FLASH
    # Where the bootloader tells a unique id, it decides.
    known = dataclasses.replace(met, uid="aa")
    assert only(plan(snapshot(facts(ledger=known)), by_id)).action is Action.FLASH


def test_unique_id_that_a_uart_can_not_tell_is_refused_and_one_from_usb_is_no_longer_expected_there() -> None:
    here, there = "/dev/serial/by-path/bmcu", "/dev/serial/by-path/elsewhere"
    met = dataclasses.replace(ledger(OLD, uid="aa"), chip="stm32f446xe", by_path=here)
    images = (for_usb("v1"), for_usb("v2"))

    def found(port: str, uid: str, by_path: str, usb: str = "") -> HostPlan:
        seen = snapshot(facts(firmware=Firmware("none"), ledger=dataclasses.replace(met, by_path=by_path)))
        seen = dataclasses.replace(seen, ports=[dataclasses.replace(seen.ports[0], usb=usb)])
        return plan(seen, board(port=port, uid=uid, **USB_BOARD), artifacts=images)

    refused = only(found(here, "aa", here))
    assert refused.action is Action.REFUSE
    assert "katapult learns a unique id from USB, but port" in refused.reason and "uid = 'aa'" in refused.reason
    # Moved from USB to a UART: only its place says whether it is the same.
    assert "was met at /dev/serial/by-path/elsewhere" in only(found("/dev/ttyAMA0", "", there)).reason
    written = found(here, "", here).transaction
    assert written is not None and written.boards[0].uid == ""
    # An adapter may be what a board on USB shows until it is in its bootloader, which the agent asks.
    asked = found(here, "", here, "1a86:7523::USB Serial::00").transaction
    assert asked is not None and asked.boards[0].uid == "aa"


def test_unique_id_that_another_programmer_learned_is_not_expected_of_one_that_learns_none() -> None:
    met = dataclasses.replace(ledger(OLD, uid="aa"), chip="stm32f446xe")
    described = {**USB_BOARD, "programmer": "flashtool", "port": "usb:1-1.2"}
    seen = snapshot(facts(firmware=Firmware("none"), ledger=met))
    written = plan(seen, board(**described), artifacts=(for_usb("v1"), for_usb("v2"))).transaction
    assert written is not None and written.boards[0].uid == ""


def test_socket_that_the_inventory_names_is_the_users_word_wherever_the_board_was_before() -> None:
    met = dataclasses.replace(ledger(OLD), by_path="/dev/serial/by-path/elsewhere")
    described = {**USB_BOARD, "programmer": "flashtool", "port": "usb:1-1.2"}
    seen = facts(firmware=Firmware("none"), ledger=met)
    found = only(plan(snapshot(seen), board(**described), artifacts=(for_usb("v1"), for_usb("v2"))))
    assert found.action is Action.FLASH


def test_board_that_waits_in_its_bootloader_is_flashed_and_the_plan_says_so() -> None:
    found = only(plan_usb(moved=True))
    assert found.action is Action.FLASH and f"port {BY_ID} is not there, but the board is" in found.reason
    assert only(plan_usb()).reason == ""


def test_plan_says_that_a_protected_stm32_tells_its_unique_id_only_when_it_is_erased() -> None:
    def reason(**fields: Any) -> str:
        described = {**USB_BOARD, "programmer": "stm32_rom", **fields}
        return only(plan(snapshot(facts(firmware=Firmware("none"))), board(**described), artifacts=images)).reason

    images = (for_usb("v1"), for_usb("v2"))
    assert "whether it is aa is only seen after" in reason(uid="aa", unprotect=True)
    assert reason(uid="aa") == reason(unprotect=True) == ""
