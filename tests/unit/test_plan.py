"""Everything that decides, without a host: which boards are flashed, and why the others are not."""

import ast
import dataclasses
import itertools
from pathlib import Path

import pytest

from fleetflash import plan as planning
from fleetflash.agent.schema import BoardFacts, Firmware, Holder, LedgerEntry, PortFacts, Snapshot, TransactionFacts
from fleetflash.boards import PROGRAMMERS, Board
from fleetflash.firmware.artifact import Artifact, ArtifactFile
from fleetflash.plan import Action, BoardPlan, HostPlan, Printer, hold_back, printer_state
from tests.unit.observed import (
    KLIPPY_PID,
    NEW,
    OLD,
    artifact,
    board,
    facts,
    firmware,
    gateway_artifact,
    ledger,
    plan,
    service,
    snapshot,
)


def only(host_plan: HostPlan) -> BoardPlan:
    (found,) = host_plan.boards
    return found


#: All modules of the room, by their names.
HERE = Path(planning.__file__).parent
ROOM = {".".join(path.relative_to(HERE).with_suffix("").parts): path for path in HERE.rglob("*.py")}
#: What they may import beside each other.
PURE = {
    "collections.abc",
    "dataclasses",
    "datetime",
    "enum",
    "fleetflash.agent.acceptance.contract",
    "fleetflash.agent.schema",
    "fleetflash.boards",
    "fleetflash.firmware.artifact",
    "fleetflash.firmware.chips",
    "fleetflash.firmware.errors",
    "fleetflash.firmware.partition",
    "fleetflash.firmware.versions",
    "typing",
}


def impure(source: str, name: str) -> set[str]:
    """Return what a module of the room imports, or calls, that could do I/O."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {"." * node.level + str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name)} & {"open", "print", "input", "__import__"}
    # Where the mirror of a repository is; nothing looks there.
    allowed = PURE | {f"fleetflash.plan.{each}" for each in ROOM} | ({"pathlib"} if name == "model" else set())
    return names - allowed


def test_the_whole_room_is_looked_at() -> None:
    assert {"__init__", "model", "host", "board", "backup", "rollback", "hold", "host_code"} <= set(ROOM)


@pytest.mark.parametrize("name", sorted(ROOM))
def test_plan_does_no_io(name: str) -> None:
    assert impure(ROOM[name].read_text(), name) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os", "os"),
        ("from pathlib import Path", "pathlib"),
        ("from fleetflash import link", "fleetflash"),
        ("from fleetflash.firmware.store import Store", "fleetflash.firmware.store"),
        ("from ..link import ssh", "..link"),
        ("def f():\n    import subprocess", "subprocess"),
        ("def f():\n    return open('x')", "open"),
    ],
)
def test_io_that_is_planted_is_found(source: str, found: str) -> None:
    assert impure(source, "board") == {found}


# What a printer is doing


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"active": "inactive"}, Printer.STOPPED),
        ({"active": "failed"}, Printer.STOPPED),
        ({"active": "activating"}, Printer.UNKNOWN),
        ({"active": "deactivating"}, Printer.UNKNOWN),
        ({"active": "absent"}, Printer.UNKNOWN),
        ({"active": "unknown"}, Printer.UNKNOWN),
        ({"klippy": ""}, Printer.UNKNOWN),
        ({"klippy": "startup"}, Printer.ERROR),
        ({"klippy": "error"}, Printer.ERROR),
        ({"klippy": "shutdown"}, Printer.ERROR),
        ({"klippy": "something new"}, Printer.UNKNOWN),
        ({"print_state": "printing"}, Printer.PRINTING),
        ({"print_state": "paused"}, Printer.PAUSED),
        ({"paused": True}, Printer.PAUSED),
        ({"print_state": "standby"}, Printer.IDLE),
        ({"print_state": "complete"}, Printer.IDLE),
        ({"print_state": "cancelled"}, Printer.IDLE),
        ({"print_state": "error"}, Printer.IDLE),
        ({"print_state": ""}, Printer.UNKNOWN),
        ({"print_state": "something new"}, Printer.UNKNOWN),
    ],
)
def test_printer_states(fields: dict[str, object], state: Printer) -> None:
    assert printer_state(service(**fields)) is state


def test_only_what_certainly_does_not_print_is_ever_stopped() -> None:
    """Over every combination: a flash is planned only for a stopped, idle or broken Klipper."""
    for active, klippy, state, paused in itertools.product(
        ["active", "inactive", "failed", "activating", "absent"],
        ["ready", "startup", "error", "shutdown", ""],
        ["printing", "paused", "standby", ""],
        [True, False],
    ):
        found = service(active=active, klippy=klippy, print_state=state, paused=paused)
        action = only(plan(snapshot(service=found))).action
        may_print = active == "active" and (klippy == "" or (klippy == "ready" and (state != "standby" or paused)))
        if may_print or active in ("activating", "absent"):
            assert action in (Action.DEFER, Action.REFUSE), found


def test_printer_that_prints_is_deferred_and_one_that_cannot_be_asked_is_refused() -> None:
    assert only(plan(snapshot(service=service(print_state="printing")))).action is Action.DEFER
    silent = only(plan(snapshot(service=service(klippy="", error="klippy.sock: timed out"))))
    assert silent.action is Action.REFUSE and "klippy.sock: timed out" in silent.reason


# When a board is current


def test_board_that_runs_the_wanted_image_is_left_alone() -> None:
    found = plan(snapshot(facts(firmware=firmware("v2"), ledger=ledger(NEW))))
    assert only(found).action is Action.NONE and found.transaction is None
    assert only(plan(snapshot(facts(firmware=firmware("v2"))))).action is Action.NONE


@pytest.mark.parametrize(
    "changed",
    [
        facts(firmware=firmware("v1")),
        facts(firmware=firmware("v2", CLOCK_FREQ=72000000)),
        facts(firmware=dataclasses.replace(firmware("v2"), build_versions="another gcc")),
        facts(firmware=firmware("v2"), ledger=ledger(OLD)),
        facts(firmware=firmware("v2"), ledger=dataclasses.replace(ledger(NEW), image_sha256="unfinished")),
    ],
)
def test_equal_version_alone_is_not_enough(changed: object) -> None:
    assert only(plan(snapshot(changed))).action is Action.FLASH  # type: ignore[arg-type]


def test_board_that_nobody_could_ask_is_assumed_from_the_ledger_and_says_so() -> None:
    unasked = Firmware("unasked", error="held by klippy")
    current = only(plan(snapshot(facts(firmware=unasked, ledger=ledger(NEW)))))
    assert current.action is Action.NONE and "assumed from the ledger" in current.reason
    assert only(plan(snapshot(facts(firmware=unasked, ledger=ledger(OLD))))).action is Action.FLASH


def test_board_that_does_not_answer_is_not_assumed_to_be_current() -> None:
    silent = Firmware("none", error="no answer")
    assert only(plan(snapshot(facts(firmware=silent, ledger=ledger(NEW))))).action is Action.FLASH


def test_vendor_firmware_is_known_by_the_ledger_alone() -> None:
    vendor = artifact("1.0", name="vendor", klipper=False)
    wanting = board(firmware="vendor", firmware_version="1.0")
    silent = facts(firmware=Firmware("none"), ledger=ledger(vendor))
    assert only(plan(snapshot(silent), wanting, artifacts=(OLD, vendor))).action is Action.NONE
    answering = facts(firmware=firmware("v1"), ledger=ledger(vendor))
    assert only(plan(snapshot(answering), wanting, artifacts=(OLD, vendor))).action is Action.FLASH


def test_board_that_needs_attention_is_never_current_nor_flashed() -> None:
    latched = {"bmcu": "verify failed"}
    for version in ("v1", "v2"):
        found = only(plan(snapshot(facts(firmware=firmware(version)), needs_attention=latched)))
        assert found.action is Action.REFUSE
        assert "verify failed" in found.reason and "fleetflash board clear INVENTORY printer bmcu" in found.reason


# The way back


def test_way_back_is_what_runs_then_what_was_committed_then_the_factory_image() -> None:
    third = artifact("v3")
    running = only(plan(snapshot(facts(ledger=ledger(third))), artifacts=(OLD, NEW, third)))
    assert (running.way_back, running.way_back_kind) == (OLD, "running")
    unknown = facts(firmware=firmware("v0"), ledger=ledger(third))
    committed = only(plan(snapshot(unknown), artifacts=(OLD, NEW, third)))
    assert (committed.way_back, committed.way_back_kind) == (third, "committed")
    factory = only(plan(snapshot(facts(firmware=firmware("v0")))))
    assert (factory.way_back, factory.way_back_kind) == (OLD, "factory")


def test_no_way_back_is_refused_unless_accepted_for_that_board() -> None:
    unknown = snapshot(facts(firmware=firmware("v0")))
    refused = plan(unknown, artifacts=(NEW,))
    assert refused.transaction is None
    assert "no way back" in only(refused).reason and "v0" in only(refused).reason
    accepted = plan(unknown, board(accept_no_way_back=True), artifacts=(NEW,))
    assert accepted.transaction is not None and accepted.transaction.boards[0].way_back is None


def test_several_factory_images_are_a_guess_unless_one_has_the_firmwares_name() -> None:
    unknown = snapshot(facts(firmware=firmware("v0")))
    others = [artifact("1", name=name, labels=("factory",), klipper=False) for name in ("left", "right")]
    assert "no way back" in only(plan(unknown, artifacts=(NEW, *others))).reason
    assert only(plan(unknown, artifacts=(NEW, others[0]))).way_back == others[0]
    assert only(plan(unknown, artifacts=(NEW, OLD, *others))).way_back == OLD


# Refusals


@pytest.mark.parametrize(
    ("observed", "words"),
    [
        (snapshot(facts(device="", candidates=[])), ["is not there"]),
        (snapshot(facts(device="", candidates=["/dev/ttyUSB0", "/dev/ttyUSB1"])), ["ambiguous", "ttyUSB0", "ttyUSB1"]),
        (snapshot(facts(klippy_device="/dev/ttyUSB7")), ["klippy's mcu is on /dev/ttyUSB7", "/dev/ttyUSB0"]),
        (snapshot(facts(firmware=firmware(MCU="stm32f103"))), ["stm32f103", "ch32v203c8t6"]),
        (snapshot(sudo="user pi may not"), ["user pi may not"]),
        (snapshot(systemd="no systemd"), ["no systemd"]),
        (snapshot(disk_free=1000), ["MiB free"]),
        (
            snapshot(transaction=TransactionFacts("t0", "", True, controller="you@there")),
            ["t0", "you@there", "running"],
        ),
    ],
)
def test_refusals_say_what_was_found_and_expected(observed: Snapshot, words: list[str]) -> None:
    found = plan(observed)
    assert only(found).action is Action.REFUSE and found.transaction is None
    assert all(word in only(found).reason for word in words), only(found).reason


def test_holder_of_a_port_is_named_and_klippy_is_none() -> None:
    def held(pid: int) -> Snapshot:
        return snapshot(ports=[PortFacts("/dev/ttyUSB0", [], [], holders=[Holder(pid, "minicom")])])

    refused = only(plan(held(7)))
    assert refused.action is Action.REFUSE and "process 7 (minicom)" in refused.reason
    assert only(plan(held(KLIPPY_PID))).action is Action.FLASH


def test_board_on_a_bus_is_there_when_its_interface_is_and_klippy_must_mean_the_same_node() -> None:
    described = {"programmer": "katapult_can", "chip": "stm32f103xb", "flash_offset": 0x2000}
    port, other = "can0:1234567890ab", "can0:0badcafe0102"
    images = (behind_katapult("v1"), behind_katapult("v2"))

    def reason(**seen: object) -> str:
        wanted = board(port=port, accept_no_way_back=True, **described)
        return only(plan(snapshot(facts(device=port, **seen), ports=[]), wanted, artifacts=images)).reason

    down = Firmware("none", error="CAN interface can0 is down; `ip link set can0 up`")
    silent = Firmware("none")
    assert reason(candidates=[], firmware=down) == f"port {port}: {down.error}"
    assert f"klippy's mcu is on {other}" in reason(firmware=silent, klippy_device=other)
    assert reason(firmware=silent, klippy_device=port) == reason(firmware=silent) == ""


def test_record_of_a_board_that_was_replaced_says_nothing_of_the_new_one() -> None:
    """The agent checks the chip against the inventory's unique id before it erases."""
    seen = snapshot(facts(firmware=firmware("v2"), ledger=ledger(NEW, uid="aa")))
    assert only(plan(seen, board(uid="aa"))).action is Action.NONE
    # The other board's record does not make its image this one's.
    replaced = plan(snapshot(facts(ledger=ledger(NEW, uid="aa"))), board(uid="bb"))
    assert replaced.transaction is not None and replaced.transaction.boards[0].uid == "bb"
    assert only(replaced).way_back_kind == "running"
    silent = facts(firmware=Firmware("unasked"), ledger=ledger(NEW, uid="aa"))
    assert only(plan(snapshot(silent), board(uid="aa"))).action is Action.NONE
    assert only(plan(snapshot(silent), board(uid="bb"))).action is Action.FLASH


def test_two_boards_on_one_device_are_told_apart() -> None:
    seen = snapshot(facts("left"), facts("right"))
    found = plan(seen, board("left"), board("right", klippy_mcu="right"))
    assert [b.action for b in found.boards] == [Action.FLASH, Action.REFUSE]
    assert "left already claims" in found.boards[1].reason


def test_board_with_malformed_data_does_not_hide_its_neighbour() -> None:
    found = plan(None, errors=(("other", "port is missing"),))
    assert [(b.name, b.action) for b in found.boards] == [("other", Action.REFUSE), ("bmcu", Action.FLASH)]


@pytest.mark.parametrize("pin", [0.12, 12, float("inf"), None])
def test_pin_that_is_no_text_is_refused(pin: object) -> None:
    assert only(plan(None, board(firmware_version=pin))).action is Action.REFUSE


# Hands, policy, rollout


def test_button_without_anybody_there_waits_and_with_somebody_is_flashed() -> None:
    button = board(entry="button")
    alone = plan(None, button)
    assert only(alone).action is Action.WAITING and alone.transaction is None
    attended = plan(None, button, attended=True)
    assert attended.transaction is not None and attended.transaction.boards[0].entry.method == "button"


def test_policy_exact_moves_all_boards_or_none() -> None:
    seen = snapshot(facts("left"), facts("right", device="/dev/ttyUSB1"))
    boards = (board("left"), board("right", klippy_mcu="right", entry="button"))
    compatible = plan(seen, *boards)
    assert [b.action for b in compatible.boards] == [Action.FLASH, Action.WAITING]
    assert compatible.transaction is not None and [b.name for b in compatible.transaction.boards] == ["left"]
    exact = plan(seen, *boards, policy="exact")
    assert [b.action for b in exact.boards] == [Action.WAITING, Action.WAITING] and exact.transaction is None


def test_plan_that_is_held_back_writes_nothing() -> None:
    held = hold_back(plan(), "canaries failed")
    assert (only(held).action, only(held).reason, held.transaction) == (Action.DEFER, "canaries failed", None)


# The transaction


def test_transaction_carries_what_the_plan_saw() -> None:
    found = plan(snapshot(facts(ledger=ledger(OLD, uid="aa"))))
    assert found.transaction is not None
    (written,) = found.transaction.boards
    assert (written.expected.version, written.uid, written.device) == ("v1", "aa", "/dev/ttyUSB0")
    assert written.chip_ids == ["19:31"] and written.flash_size == 65536
    assert written.wanted.version == "v2" and written.way_back is not None and written.way_back.version == "v1"
    assert (found.transaction.was_active, found.transaction.was_ready) == (True, True)
    assert set(found.artifacts) == {OLD.files[0].sha256, NEW.files[0].sha256}
    assert found.transaction.restore_seconds > (only(found).seconds or 0) > 0


def test_klipper_that_is_stopped_stays_stopped() -> None:
    found = plan(snapshot(service=service(active="inactive", klippy="")))
    assert found.transaction is not None and not found.transaction.was_active and found.downtime is None


def test_forwarded_port_is_expected_to_take_longer() -> None:
    beside, forwarded = only(plan()), only(plan(None, board(placement="controller")))
    assert (forwarded.seconds or 0) > 2 * (beside.seconds or 0)


@pytest.mark.parametrize(
    ("last", "story"),
    [
        (TransactionFacts("t0", "committed", False, reported=False), "ended: committed"),
        (TransactionFacts("t0", "", False, reported=False), "was interrupted"),
        (TransactionFacts("t0", "", True, reported=False), "is running"),
    ],
)
def test_transaction_that_nobody_followed_is_told(last: TransactionFacts, story: str) -> None:
    found = plan(snapshot(facts(firmware=firmware("v2")), transaction=last))
    assert found.unreported == last and story in found.notes[0]
    reported = dataclasses.replace(last, running=False, reported=True)
    assert plan(snapshot(facts(firmware=firmware("v2")), transaction=reported)).unreported is None


def test_chip_that_the_programmer_cannot_write_is_refused_although_an_image_is_registered() -> None:
    avr = NEW.model_copy(update={"chip": "atmega2560"})
    refused = only(plan(None, board(chip="atmega2560"), artifacts=(avr,)))
    assert refused.action is Action.REFUSE and "wch_isp can't write atmega2560" in refused.reason


STM32 = {"chip": "stm32f103xb", "programmer": "katapult", "flash_offset": 0x2000}


def behind_katapult(version: str, offset: int = 0x2000) -> Artifact:
    file = OLD.files[0].model_copy(update={"offset": offset})
    return artifact(version, MCU="stm32f103xe").model_copy(update={"chip": "stm32f103xb", "files": (file,)})


def seen_stm32(version: str = "v1") -> Snapshot:
    return snapshot(facts(firmware=firmware(version, MCU="stm32f103xe")))


def test_application_behind_a_bootloader_is_written_where_it_begins() -> None:
    found = plan(seen_stm32(), board(**STM32), artifacts=(behind_katapult("v1"), behind_katapult("v2")))
    assert found.transaction is not None
    (written,) = found.transaction.boards
    assert (written.flash_base, written.flash_offset, written.flash_size) == (0x0800_0000, 0x2000, 0x1_E000)
    assert (written.chip_ids, written.entry.method) == (["stm32f103xe"], "request")
    assert written.by_path == "/dev/serial/by-path/bmcu"


@pytest.mark.parametrize("offset", [0, 0x1000, 0x8000])
def test_image_for_another_place_in_the_flash_is_refused(offset: int) -> None:
    refused = only(plan(seen_stm32(), board(**STM32), artifacts=(behind_katapult("v2", offset),)))
    assert refused.action is Action.REFUSE
    assert f"offset {offset:#x}" in refused.reason and "begins at 0x2000" in refused.reason


def test_way_back_is_for_the_place_where_the_application_begins() -> None:
    """The same version of a neighbour with the same chip, behind another bootloader, is none."""
    wanted, elsewhere = behind_katapult("v2"), behind_katapult("v1", 0x7000)
    found = only(plan(seen_stm32(), board(**STM32), artifacts=(wanted, elsewhere, behind_katapult("v1"))))
    assert found.way_back == behind_katapult("v1")
    read_back = only(plan(seen_stm32(), board(**STM32), artifacts=(wanted, elsewhere)))
    assert read_back.way_back is None and read_back.way_back_kind == "read-back"


def test_board_that_can_be_read_is_flashed_without_a_registered_way_back_unless_it_is_protected() -> None:
    wanted = behind_katapult("v2")
    found = plan(seen_stm32(), board(**STM32), artifacts=(wanted,))
    assert found.transaction is not None
    (described,) = found.transaction.boards
    assert described.read_back and described.way_back is None
    known = plan(seen_stm32(), board(**STM32), artifacts=(wanted, behind_katapult("v1"))).transaction
    assert known is not None and not known.boards[0].read_back
    # Reading the whole flash takes its time.
    with_reading, without = only(found).seconds, known.restore_seconds
    assert with_reading is not None and with_reading > without
    protected = only(plan(seen_stm32(), board(**STM32, unprotect=True), artifacts=(wanted,)))
    assert protected.action is Action.REFUSE and "no way back" in protected.reason


def test_boot_section_of_an_avr_is_not_the_applications() -> None:
    avr = [version.model_copy(update={"chip": "atmega328p"}) for version in (OLD, NEW)]
    seen = snapshot(facts(firmware=firmware(MCU="atmega328p")))
    found = plan(seen, board(chip="atmega328p", programmer="stk500"), artifacts=avr)
    assert found.transaction is not None and found.transaction.boards[0].flash_size == 32 * 1024 - 512


def test_plan_says_what_a_way_back_can_be() -> None:
    both = (behind_katapult("v1"), behind_katapult("v2"))
    assert only(plan(seen_stm32(), board(**STM32), artifacts=both)).backup == "read-back"
    assert only(plan(seen_stm32(), board(**STM32, unprotect=True), artifacts=both)).backup == "known-good only"
    assert only(plan()).backup == "known-good only"
    unknown = only(plan(snapshot(facts(firmware=firmware("v0"))), artifacts=(NEW,)))
    assert unknown.backup == "none" and "wch_isp can't read ch32v203c8t6 back" in unknown.reason
    readable = only(plan(seen_stm32("v0"), board(**STM32), artifacts=both[1:]))
    assert readable.backup == "read-back" and "can't read" not in readable.reason


@pytest.mark.parametrize(
    ("programmer", "size", "line", "trips", "busy"),
    [
        # PROTOCOLS.md, "Time = line + RTs x RTT"; the last adds what the flash itself takes.
        ("katapult", 40 * 1024, 4.7, 1284, 1.3),
        ("stm32_rom", 40 * 1024, 8.2, 972, 2.4),
    ],
)
def test_estimates_of_each_programmer_are_line_time_and_round_trips(
    programmer: str, size: int, line: float, trips: int, busy: float
) -> None:
    pace = PROGRAMMERS[programmer].pace
    assert pace.seconds(size, 0.0) == pytest.approx(pace.fixed + line + busy, abs=0.1)
    assert (pace.seconds(size, 1.0) - pace.seconds(size, 0.0)) == pytest.approx(trips, rel=0.02)


def test_estimate_of_an_avr_is_what_avrdude_took() -> None:
    """PROTOCOLS.md: 12 KiB on optiboot, written and verified, 3.2 s."""
    pace = PROGRAMMERS["stk500"].pace
    assert pace.seconds(12 * 1024, 0.0) - pace.fixed == pytest.approx(3.2, abs=0.1)


def test_estimates_are_line_time_and_round_trips_as_measured() -> None:
    """30 KiB at 1 Mbaud are 1098 round trips and 0.84 s of line (PROTOCOLS.md); a trip beside the port costs 1 ms."""
    beside, forwarded = only(plan()), only(plan(None, board(placement="controller")))
    trips = 2 * -(-30720 // 56)
    assert trips == 1098
    assert beside.seconds == pytest.approx(1.5 + 0.84 + trips * 0.001, abs=0.1)
    assert forwarded.seconds == pytest.approx(1.5 + 0.84 + trips * 0.021, abs=0.1)


def test_downtime_is_the_writing_of_all_boards_and_one_restart_and_the_restore_has_time_for_hands() -> None:
    seen = snapshot(facts("left"), facts("right", device="/dev/ttyUSB1"))
    boards = (board("left"), board("right", klippy_mcu="right", entry="button", hands_seconds=90))
    found = plan(seen, *boards, attended=True)
    writing = sum(b.seconds or 0 for b in found.boards)
    assert found.downtime == pytest.approx(writing + 6.0, abs=0.1)
    assert found.transaction is not None
    assert found.transaction.restore_seconds == pytest.approx(writing + 90 + 6.0, abs=0.1)


def test_same_facts_give_the_same_plan_in_the_order_of_the_inventory() -> None:
    seen = snapshot(facts("left"), facts("right", device="/dev/ttyUSB1"))
    boards = (board("right", klippy_mcu="right"), board("left"))
    first, second = plan(seen, *boards), plan(seen, *boards)
    assert first == second
    assert [b.name for b in first.boards] == ["right", "left"]
    assert first.transaction is not None and [b.name for b in first.transaction.boards] == ["right", "left"]


def test_way_back_prefers_the_image_that_the_ledger_names_among_equal_dictionaries() -> None:
    """Two images with one version and equal constants: what was written last here is what runs."""
    twin = OLD.model_copy(update={"files": (OLD.files[0].model_copy(update={"sha256": "f" * 64}),)})
    for written in (OLD, twin):
        found = only(plan(snapshot(facts(ledger=ledger(written))), artifacts=(OLD, twin, NEW)))
        assert (found.way_back, found.way_back_kind) == (written, "running")


def test_transaction_that_runs_is_followed_and_not_disturbed() -> None:
    running = TransactionFacts("t0", "", True, controller="you@there")
    found = plan(snapshot(transaction=running))
    assert found.unreported == running and found.transaction is None


# Gateways

BUILDS = (gateway_artifact("v1", "factory"), gateway_artifact("v2"))
SILENT = Firmware("unasked", error="only a reset would have it say what it runs")


def gateway(**fields: object) -> Board:
    return board("gateway", **{"chip": "esp32", "programmer": "esptool", "firmware": "gateway", **fields})


def seen(**fields: object) -> BoardFacts:
    return facts("gateway", firmware=SILENT, **fields)


def test_a_gateway_gets_all_parts_of_its_build_as_one_image() -> None:
    found = plan(snapshot(seen()), gateway(), artifacts=BUILDS)
    assert found.transaction is not None
    (written,) = found.transaction.boards
    assert (written.wanted.sha256, written.wanted.size) == (BUILDS[1].image_sha256, 0xA000)
    assert written.wanted.esp and not written.wanted.klipper and written.tool
    assert (written.chip_ids, written.baud, written.klippy_mcu) == (["esp32"], 115200, None)
    assert only(found).way_back_kind == "factory"
    assert set(found.artifacts) == {build.image_sha256 for build in BUILDS}


def test_a_gateway_is_read_back_rather_than_given_the_factory_image_of_another_product() -> None:
    other = BUILDS[0].model_copy(update={"name": "another-product"})
    found = only(plan(snapshot(seen()), gateway(), artifacts=(other, BUILDS[1])))
    assert (found.way_back, found.way_back_kind) == (None, "read-back")


def test_a_gateway_is_current_by_the_word_of_the_ledger() -> None:
    done = LedgerEntry(BUILDS[1].id, BUILDS[1].image_sha256, "v2", "t0", "esp32")
    found = only(plan(snapshot(seen(ledger=done)), gateway(), artifacts=BUILDS))
    assert found.action is Action.NONE and found.reason.startswith("assumed from the ledger")
    half = dataclasses.replace(done, image_sha256="unfinished")
    assert only(plan(snapshot(seen(ledger=half)), gateway(), artifacts=BUILDS)).action is Action.FLASH


def test_a_gateway_s_own_api_counts_more_than_the_ledger() -> None:
    done = LedgerEntry(BUILDS[1].id, BUILDS[1].image_sha256, "v2", "t0", "esp32")

    def planned(version: str, ledger: LedgerEntry | None) -> BoardPlan:
        told = facts("gateway", firmware=Firmware("api", version), ledger=ledger)
        return only(plan(snapshot(told), gateway(), artifacts=BUILDS))

    assert (planned("v2", done).action, planned("v2", done).reason) == (Action.NONE, "")
    assert planned("v2", None).action is Action.NONE  # somebody has written it by hand
    # Somebody has gone back by hand: what the ledger says is no way back, but what is there is read.
    assert (planned("v1", done).action, planned("v1", done).way_back_kind) == (Action.FLASH, "factory")
    other = dataclasses.replace(done, image_sha256="5" * 64)
    assert planned("v2", other).action is Action.FLASH  # another build of the same version
    half = dataclasses.replace(done, image_sha256="unfinished")
    assert planned("v2", half).action is Action.FLASH


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        ({}, "nvs"),
        ({"keep": ["history"]}, "nvs and history"),
        ({"keep": ["history"], "erase": ["nvs"]}, "history"),
        ({"erase": ["nvs", "history"]}, ""),
    ],
)
def test_what_a_gateway_has_stored_is_overwritten_only_when_that_is_asked_for(
    fields: dict[str, list[str]], lost: str
) -> None:
    wanted = BUILDS[1]
    assert wanted.esp
    told = wanted.esp.model_copy(update={"settings": ("nvs",), "filesystems": ("history", "web")})
    whole = wanted.model_copy(update={"esp": told})
    found = plan(snapshot(seen()), gateway(**fields), artifacts=(BUILDS[0], whole)).boards[0]
    if lost:
        assert found.action is Action.REFUSE and f"overwrites {lost}, where the firmware keeps" in found.reason
    else:
        assert found.action is Action.FLASH
    # Neither is it a way back: what the gateway runs is read instead.
    factory = whole.model_copy(update={"labels": ("factory",), "version": "v1", "files": BUILDS[0].files})
    back = plan(snapshot(seen()), gateway(**fields), artifacts=(factory, BUILDS[1])).boards[0]
    assert back.way_back_kind == ("read-back" if lost else "factory")


@pytest.mark.parametrize(
    ("asked", "host", "controller", "placement", "reason"),
    [
        (None, "", "", "host", ""),
        (None, "", "none here", "host", ""),
        (None, "none there", "", "controller", ""),
        (None, "none there", "none here", "", "none here"),
        ("host", "none there", "", "", "none there"),
        ("controller", "", "", "controller", ""),
        ("controller", "", "none here", "", "none here"),
    ],
)
def test_esptool_runs_on_the_host_where_it_can_and_here_otherwise(
    asked: str | None, host: str, controller: str, placement: str, reason: str
) -> None:
    observed = snapshot(seen(), esptool=host)
    found = plan(observed, gateway(placement=asked), artifacts=BUILDS, esptool=controller)
    if reason:
        assert (only(found).action, only(found).reason) == (Action.REFUSE, reason)
    else:
        assert found.transaction is not None
        assert found.transaction.boards[0].placement == placement


def test_an_image_of_another_kind_is_refused_for_a_gateway() -> None:
    raw = make_raw_artifact()
    found = only(plan(snapshot(seen()), gateway(firmware="klipper"), artifacts=(raw,)))
    assert found.action is Action.REFUSE and "no image for esptool" in found.reason


def make_raw_artifact() -> Artifact:
    return artifact("v2", klipper=False).model_copy(update={"chip": "esp32"})


def test_a_host_without_klipper_is_flashed_and_nothing_is_stopped() -> None:
    none = service(unit="", active="none", klippy="", print_state="", main_pid=0)
    found = plan(snapshot(seen(), service=none), gateway(), artifacts=BUILDS, service="")
    assert found.transaction is not None and found.downtime is None
    assert (found.transaction.service, found.transaction.was_active, found.transaction.was_ready) == ("", False, False)


def of_parts(version: str, *parts: tuple[int, int, str], labels: tuple[str, ...] = ()) -> Artifact:
    """A gateway's layout of (offset, size, digit of its hash)."""
    files = tuple(
        {"name": f"{offset:x}.bin", "offset": offset, "size": size, "sha256": digit * 64}
        for offset, size, digit in parts
    )
    base = gateway_artifact(version, *labels)
    return base.model_copy(update={"files": tuple(ArtifactFile(**file) for file in files)})


def test_a_way_back_that_leaves_settings_overwritten_is_none_where_the_board_can_be_read() -> None:
    former = of_parts("v1", (0x8000, 0xC00, "a"), (0x10000, 0x80000, "b"), labels=("factory",))
    larger = of_parts("v2", (0x8000, 0xC00, "a"), (0x10000, 0x90000, "c"))
    elsewhere = of_parts("v2", (0x8000, 0xC00, "d"), (0x10000, 0x90000, "c"))
    within = of_parts("v2", (0x8000, 0xC00, "d"), (0x10000, 0x70000, "c"))
    for wanted, kind in ((larger, "factory"), (elsewhere, "read-back"), (within, "factory")):
        found = plan(snapshot(seen()), gateway(), artifacts=(former, wanted))
        assert only(found).way_back_kind == kind
        assert found.transaction is not None and found.transaction.boards[0].read_back is (kind == "read-back")
    half = LedgerEntry(former.id, "unfinished", "", "t0", "esp32")
    interrupted = only(plan(snapshot(seen(ledger=half)), gateway(), artifacts=(former, elsewhere)))
    assert interrupted.way_back_kind == "committed", "what it holds now is no way back"


def test_a_restore_has_the_time_that_its_way_back_needs() -> None:
    former = of_parts("v1", (0x0, 0x800000, "b"), labels=("factory",))
    found = plan(snapshot(seen()), gateway(), artifacts=(former, of_parts("v2", (0x10000, 0x10000, "c"))))
    assert found.transaction is not None and found.transaction.restore_seconds > 8 * 2**20 * 10 / 460_800
