"""A board behind Katapult on a CAN bus is found by its uuid, asked, written and verified, and no other is touched.

The kernel's socket is a simulated bus (``can_bus``): no machine of ours has one.
"""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from can_bus import OFFSET, SIZE, Node, SimulatedBus
from hypothesis import given
from hypothesis import strategies as st

from fleetflash.agent import board as board_module
from fleetflash.agent import can_socket, connections, devices
from fleetflash.agent.board import BoardOnPort
from fleetflash.agent.port import PortError
from fleetflash.agent.protocols import can_admin, can_node, katapult_can_programmer
from fleetflash.agent.protocols.errors import NoAnswerError, VerifyError, WrongChipError
from fleetflash.agent.schema import BoardTransaction, Entry, Firmware, Image
from fleetflash.lab.image import build_image

UUID, OTHER = bytes.fromhex("1234567890ab"), bytes.fromhex("0badcafe0102")
PORT = f"can0:{UUID.hex()}"


def image(version: str) -> bytes:
    return build_image(version, mcu="stm32f103xe", base=0x0800_0000 + OFFSET, size=4096 + 20)


def flash_of(version: str) -> bytearray:
    return bytearray(b"\xff" * OFFSET + image(version)).ljust(SIZE, b"\xff")


def node(uuid: bytes = UUID, **fields: Any) -> Node:
    return Node(uuid, flash_of("v1"), **fields)


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedBus]:
    found = SimulatedBus([node(OTHER), node()])
    monkeypatch.setattr(can_socket, "raw_socket", found.socket)
    monkeypatch.setattr(can_socket, "interface_problem", lambda interface: "")
    monkeypatch.setattr(can_socket, "SEND_SECONDS", 0.05)
    monkeypatch.setattr(devices, "list_ports", lambda holders: [])
    monkeypatch.setattr(can_node, "QUERY_SECONDS", 0.02)
    monkeypatch.setattr(katapult_can_programmer, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr("fleetflash.agent.protocols.katapult_programmer.LEAVE_SECONDS", 0.01)
    monkeypatch.setattr(board_module, "PORT_SECONDS", 0.0)
    yield found


def board(**fields: Any) -> BoardOnPort:
    new = image("v2")
    described: dict[str, Any] = {
        "name": "toolhead",
        "port": PORT,
        "device": PORT,
        "chip": "stm32f103xb",
        "chip_ids": ["stm32f103xe"],
        "flash_size": SIZE - OFFSET,
        "programmer": "katapult_can",
        "entry": Entry("request"),
        "expected": Firmware("identify", "v1"),
        "wanted": Image("a", hashlib.sha256(new).hexdigest(), len(new), "v2"),
        "way_back": None,
        "flash_base": 0x0800_0000,
        "flash_offset": OFFSET,
        **fields,
    }
    return BoardOnPort(BoardTransaction(**described), no_serial_port)


def no_serial_port(device: str, baud: int) -> Any:
    raise AssertionError(f"{device} was opened as a serial port")


def ignore(done: int, total: int) -> None: ...


def nobody(gesture: str, seconds: float) -> None:
    raise AssertionError(f"nobody is asked to {gesture}")


def test_running_board_is_backed_up_written_and_runs_the_new_firmware(bus: SimulatedBus) -> None:
    other, mine = bus.nodes
    with board().in_bootloader(nobody, "") as session:
        assert session.uid == UUID.hex() and mine.runs == "katapult"
        assert session.read(lambda phase: ignore) == image("v1").ljust(4160, b"\xff")
        session.write(image("v2"), lambda phase: ignore)
        session.programmer.reset()
    assert bytes(mine.flash) == bytes(flash_of("v2")) and board().identify(0).version == "v2"
    assert (other.resets, other.assigned, other.shut_down) == (1, 0, False) and other.flash == flash_of("v1")


def test_node_that_was_asked_before_keeps_its_id_from_being_given_to_another(bus: SimulatedBus) -> None:
    """Klipper shuts down when its id is given to a neighbour."""
    assert board().identify(0).version == "v1"
    assert board(port=f"can0:{OTHER.hex()}").identify(0).version == "v1"
    assert bus.nodes[0].assigned != bus.nodes[1].assigned and not any(found.shut_down for found in bus.nodes)
    assert all(0x100 + 2 * can_admin.node_id(bytes([n] * 6)) + 1 < 0x3F0 for n in range(256))


def test_board_that_waits_in_its_bootloader_is_not_asked_for_it(bus: SimulatedBus) -> None:
    bus.nodes[1].reset("katapult")
    with board().in_bootloader(nobody, UUID.hex()):
        pass
    assert (0x3F0, b"\x02" + UUID) not in bus.sent
    board().leave_bootloader()
    assert bus.nodes[1].runs == "klipper"


def test_admin_messages_are_those_of_the_documents() -> None:
    assert can_admin.query() == b"\x00"
    assert can_admin.set_node_id(0x11, UUID, 0x80) == bytes.fromhex("11 1234567890ab 80")
    assert can_admin.request_bootloader(UUID) == bytes.fromhex("02 1234567890ab")
    assert can_admin.hears_on(0x80) == 0x200
    assert can_admin.parse_answer(bytes.fromhex("20 1234567890ab 11")) == can_admin.Unassigned(UUID, "Katapult")
    assert can_admin.parse_answer(bytes.fromhex("20 1234567890ab")) == can_admin.Unassigned(UUID, "Klipper")
    for other in ("", "20 12", "21 1234567890ab 11"):
        assert can_admin.parse_answer(bytes.fromhex(other)) is None


@pytest.mark.parametrize("others", [[node(OTHER, runs="katapult")], []])
def test_uuid_that_nobody_has_is_an_error_that_names_who_waits(bus: SimulatedBus, others: list[Node]) -> None:
    bus.nodes = others
    waiting = f"{OTHER.hex()} \\(Katapult\\)" if others else "none"
    with (
        pytest.raises(NoAnswerError, match=f"{PORT}: no Katapult with this uuid answers.*wait for an id: {waiting}"),
        board().in_bootloader(nobody, ""),
    ):
        raise AssertionError("entered")


def test_firmware_that_does_not_make_way_is_left_running(bus: SimulatedBus) -> None:
    bus.nodes[1].deaf = True
    with pytest.raises(NoAnswerError, match="no Klipper made way"), board().in_bootloader(nobody, ""):
        raise AssertionError("entered")
    assert bus.nodes[1].resets == 1 and board().identify(0).version == "v1"


def test_person_who_resets_the_node_is_waited_for(bus: SimulatedBus) -> None:
    bus.nodes[1].deaf = True
    asked: list[str] = []

    def ask(gesture: str, seconds: float) -> None:
        asked.append(gesture)
        bus.nodes[1].reset("katapult")

    with board(entry=Entry("button", deadline=5.0)).in_bootloader(ask, ""):
        pass
    assert asked == ["press RESET twice within half a second"]


def test_two_nodes_with_one_uuid_are_told_apart_by_nobody_so_none_is_touched(bus: SimulatedBus) -> None:
    bus.nodes.append(node())
    with (
        pytest.raises(PortError, match=f"{PORT}: two nodes on the bus have this uuid"),
        board().in_bootloader(nobody, ""),
    ):
        raise AssertionError("entered")
    assert all(found.flash == flash_of("v1") and found.resets == 1 for found in bus.nodes)


def test_node_that_says_another_uuid_over_the_channel_is_refused(bus: SimulatedBus) -> None:
    bus.nodes[1].claims = OTHER
    with pytest.raises(WrongChipError, match=f"has the uuid {OTHER.hex()}"), board().in_bootloader(nobody, ""):
        raise AssertionError("entered")
    assert bus.nodes[1].flash == flash_of("v1") and bus.nodes[1].runs == "klipper"


def test_difference_is_found_by_reading_back(bus: SimulatedBus) -> None:
    with board().in_bootloader(nobody, "") as session:
        session.write(image("v2"), lambda phase: ignore)
        bus.nodes[1].flash[OFFSET + 100] ^= 1
        with pytest.raises(VerifyError, match="verify at 0x08002064"):
            session.programmer.verify(image("v2"), ignore)


# The interface


def test_interface_that_can_not_be_used_is_said_with_what_to_do(bus: SimulatedBus) -> None:
    bus.interfaces = {"can0": False}
    with pytest.raises(PortError, match="can0: the interface is down; `ip link set can0 up`"):
        can_socket.open_node(PORT, 0)
    with pytest.raises(PortError, match="can1: no such CAN interface"):
        can_socket.open_node(f"can1:{UUID.hex()}", 0)


def test_full_queue_is_waited_for_but_not_for_ever(bus: SimulatedBus) -> None:
    bus.full = 3
    can_socket.open_node(PORT, 0).close()
    bus.full = 10**9
    with pytest.raises(PortError, match="nobody on the bus acknowledges"):
        can_socket.open_node(PORT, 0)


def test_kernel_without_can_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: int) -> socket.socket:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(can_socket, "raw_socket", refuse)
    with pytest.raises(PortError, match="this host's kernel has no CAN"):
        can_socket.open_node(PORT, 0)


def test_node_that_never_falls_silent_does_not_keep_a_reader_for_ever() -> None:
    class Babble:
        def send(self, can_id: int, data: bytes) -> None: ...
        def close(self) -> None: ...
        def receive(self, timeout: float) -> tuple[int, bytes] | None:
            return (0x3F1, bytes.fromhex("20 0000000000ff 01")) if timeout else (0x101, b"12345678")

    port = can_node.CanNode(PORT, Babble())
    port.discard_input()
    assert len(port.assign()) <= can_node.MAX_NODES
    assert port.read(10, 0.01) == b""


class Replayed:
    """A bus that says these frames, at once, and then nothing; its clock moves only while somebody waits."""

    def __init__(self, frames: list[tuple[int, bytes]]) -> None:
        self.frames, self.now = list(frames), 0.0
        self.sent: list[tuple[int, bytes]] = []

    def monotonic(self) -> float:
        return self.now

    def send(self, can_id: int, data: bytes) -> None:
        self.sent.append((can_id, data))

    def receive(self, timeout: float) -> tuple[int, bytes] | None:
        if self.frames:
            return self.frames.pop(0)
        self.now += timeout
        return None

    def close(self) -> None: ...


OWN = can_admin.hears_on(can_admin.node_id(UUID)) + 1
FRAMES = st.tuples(st.sampled_from([OWN, OWN - 1, 0x3F1, 0x3F0]) | st.integers(0, 0x7FF), st.binary(max_size=8))
ADMIN_ANSWERS = st.sampled_from([UUID, bytes(6)]).flatmap(
    lambda uuid: st.sampled_from([b"", b"\x01", b"\x11", b"\x7f"]).map(lambda kind: (0x3F1, b"\x20" + uuid + kind))
)


@given(st.binary(max_size=12) | st.binary(max_size=8).map(lambda rest: b"\x20" + rest))
def test_whatever_an_admin_message_holds_is_a_node_or_none(data: bytes) -> None:
    found = can_admin.parse_answer(data)
    assert (found is not None) == (len(data) > 6 and data[0] == 0x20)
    assert found is None or (found.uuid == data[1:7] and found.kind)


@given(st.binary(min_size=6, max_size=6))
def test_every_uuid_gets_a_node_id_that_fits_its_message_and_no_admin_message_has(uuid: bytes) -> None:
    node = can_admin.node_id(uuid)
    assert 4 < node < 0x100 and can_admin.hears_on(node) + 1 < can_admin.ADMIN
    assert len(can_admin.set_node_id(can_admin.SET_KATAPULT, uuid, node)) == 8


@given(st.lists(FRAMES | ADMIN_ANSWERS, max_size=20))
def test_whatever_answers_a_query_are_nodes_unless_two_have_this_uuid(frames: list[tuple[int, bytes]]) -> None:
    bus = Replayed(frames)
    told = [data[1:7] for can_id, data in frames if can_id == 0x3F1 and len(data) > 6 and data[0] == 0x20]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(can_node, "time", bus)
        port = can_node.CanNode(PORT, bus)
        if told.count(UUID) > 1:
            with pytest.raises(PortError, match="two nodes on the bus have this uuid"):
                port.assign()
            assert bus.sent == [(0x3F0, b"\0")]
        else:
            assert [node.uuid for node in port.assign()] == told


@given(st.lists(FRAMES, max_size=20), st.integers(1, 40))
def test_what_a_node_says_is_one_stream_whatever_else_is_on_the_bus(frames: list[tuple[int, bytes]], size: int) -> None:
    bus = Replayed(frames)
    said = b"".join(data for can_id, data in frames if can_id == OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(can_node, "time", bus)
        port = can_node.CanNode(PORT, bus)
        found = [port.read(size, 1.0) for _ in range(len(said) // size + 2)]
    assert b"".join(found) == said and all(len(piece) <= size for piece in found)


@given(st.binary(max_size=100))
def test_what_is_written_goes_out_whole_in_frames_of_eight_bytes(data: bytes) -> None:
    bus = Replayed([])
    can_node.CanNode(PORT, bus).write(data)
    assert b"".join(sent for _, sent in bus.sent) == data
    assert all(can_id == OWN - 1 and 0 < len(sent) <= 8 for can_id, sent in bus.sent)


@given(st.binary(max_size=20))
def test_whatever_an_interface_gives_is_a_frame_or_a_typed_error(raw: bytes) -> None:
    double = SimulatedBus().socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(can_socket, "raw_socket", lambda *_: double)
        opened = can_socket.CanSocket("can0", OWN)
    double._far.send(raw)
    try:
        if len(raw) < 16:
            with pytest.raises(PortError, match="can0: "):
                opened.receive(0.0)
        else:
            found = opened.receive(0.0)
            assert found is not None and found[0] <= 0x7FF and found[1] == raw[8 : 8 + min(raw[4], 8)]
        assert opened.receive(0.0) is None
    finally:
        opened.close()


def interface(sys: Path, name: str, kind: str = "280", flags: str = "0x40081") -> None:
    directory = sys / "class/net" / name
    directory.mkdir(parents=True)
    (directory / "type").write_text(kind + "\n")
    (directory / "flags").write_text(flags + "\n")


def test_port_is_there_when_its_interface_is_a_can_interface_that_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interface(tmp_path, "can0")
    interface(tmp_path, "can1", flags="0x40080")
    interface(tmp_path, "eth0", kind="1")
    look = can_socket.interface_problem
    monkeypatch.setattr(can_socket, "interface_problem", lambda name: look(name, tmp_path))
    assert connections.locate("can", PORT, [], False, "") == [PORT]
    for name, problem in {
        "can1": "CAN interface can1 is down; `ip link set can1 up`",
        "can2": "the host has no CAN interface can2; it has can0, can1",
        "eth0": "eth0 is no CAN interface",
    }.items():
        assert connections.locate("can", f"{name}:{UUID.hex()}", [], False, "") == []
        assert connections.absence("can", f"{name}:{UUID.hex()}") == problem
