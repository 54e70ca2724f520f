"""Every line that candump writes is read as it was meant, and none is guessed at."""

from collections.abc import Iterator
from pathlib import Path

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetflash.functional.candump import Frame, one_bus, read_frames
from fleetflash.functional.errors import CanLogError


def read(*lines: bytes) -> list[Frame]:
    return list(read_frames(lines, "x.log"))


def test_a_data_frame() -> None:
    assert read(b"(1436509052.249713) vcan0 351#4802E803B004B801\n") == [
        Frame(1436509052.249713, "vcan0", 0x351, False, bytes.fromhex("4802E803B004B801"), 1)
    ]


def test_an_identifier_of_eight_digits_is_extended_whatever_its_value() -> None:
    short, long = read(b"(1.000000) can0 351#00", b"(1.000000) can0 00000351#00")
    assert (short.identifier, short.extended, long.identifier, long.extended) == (0x351, False, 0x351, True)


def test_can_fd_direction_and_raw_length_are_understood() -> None:
    frames = read(b"(1.0) can0 123##1AABB", b"(1.0) can0 123#1122 T", b"(1.0) can0 123#1122334455667788_E", b"")
    assert [frame.data.hex() for frame in frames] == ["aabb", "1122", "1122334455667788"]


def test_frames_without_values_are_passed_over_and_lines_still_counted() -> None:
    (frame,) = read(
        b"(1.0) can0 123#R", b"(1.0) can0 20000004#0004000000000000", b"(1.0) can0 123#R8", b"(1.0) can0 1F0#"
    )
    assert (frame.identifier, frame.data, frame.line) == (0x1F0, b"", 4)


@pytest.mark.parametrize(
    "line",
    [
        b"can0  351   [8]  48 02 E8 03 B0 04 B8 01",
        b"(1.0) can0 351#480",
        b"(1.0) can0 351#112233445566778899",
        b"(1.0) can0 51#11",
        b"(1.0) can0",
        b"(x) can0 351#11",
        b"\xff\xfe\x00",
    ],
)
def test_what_is_no_log_is_refused_with_its_line(line: bytes) -> None:
    with pytest.raises(CanLogError, match=r"^x\.log: line 2 is .* as of candump -L$"):
        read(b"(1.0) can0 351#11", line)


def test_two_buses_in_a_log_are_an_error_that_names_both_unless_one_is_chosen() -> None:
    lines = (b"(1.0) can0 351#11", b"(1.1) can1 355#11")
    with pytest.raises(CanLogError, match="can0 and of can1"):
        list(one_bus(read_frames(lines, "x.log"), "", "x.log"))
    assert [frame.line for frame in one_bus(read_frames(lines, "x.log"), "can1", "x.log")] == [2]


def test_a_clock_that_goes_back_is_an_error() -> None:
    lines = (b"(2.000000) can0 351#11", b"(1.500000) can0 351#11")
    with pytest.raises(CanLogError, match=r"line 2 the clock goes back by 0\.500000 s"):
        list(one_bus(read_frames(lines, "x.log"), "", "x.log"))


def messages() -> st.SearchStrategy[list[can.Message]]:
    def message(extended: bool, identifier: int, data: bytes, time: int) -> can.Message:
        mask = 0x1FFFFFFF if extended else 0x7FF
        return can.Message(time / 1e6, identifier & mask, extended, data=data, channel="can0")

    one = st.builds(
        message, st.booleans(), st.integers(0, 0x1FFFFFFF), st.binary(max_size=8), st.integers(1, 2_000_000_000_000_000)
    )
    return st.lists(one, max_size=20)


@given(messages())
def test_what_python_can_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, written: list[can.Message]
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.log"
    with can.CanutilsLogWriter(path) as writer:
        for message in written:
            writer.on_message_received(message)
    found = list(_frames(path))
    assert [(f.identifier, f.extended, f.data) for f in found] == [
        (m.arbitration_id, m.is_extended_id, bytes(m.data)) for m in written
    ]


def _frames(path: Path) -> Iterator[Frame]:
    with path.open("rb") as file:
        yield from read_frames(file, "written.log")
