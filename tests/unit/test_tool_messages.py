"""Bytes that cross to a flash tool arrive as they were, and what makes no sense is one typed error."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetflash.agent import wire
from fleetflash.agent.tools import messages
from fleetflash.agent.tools.messages import Message, call, collect, joined, pieces

JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=9), lambda more: st.lists(more, max_size=3), max_leaves=5
)
FOUND = st.dictionaries(st.sampled_from(["data", "bytes", "phase"]), JSON).flatmap(
    lambda fields: st.sampled_from(["piece", "progress", "end"]).map(lambda kind: {**fields, "type": kind})
)


def ended(found: Iterator[Message]) -> Message:
    """Return the next message of a tool that ends after the last."""
    message = next(found, None)
    if message is None:
        raise wire.WireError("the tool has ended")
    return message


@given(st.binary(max_size=600), st.integers(1, 300))
def test_bytes_of_a_call_arrive_in_any_number_of_pieces(data: bytes, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "PIECE", piece)
        sent = [wire.decode_json(wire.encode_json(message)[wire.HEADER_SIZE :]) for message in call("write", data, {})]
    first, *rest = sent
    assert (first["operation"], first["bytes"], len(rest)) == ("write", len(data), -(-len(data) // piece))
    assert collect(len(data), iter(rest).__next__) == joined(rest) == data


@given(st.integers(0, 40), st.lists(FOUND, max_size=5))
def test_whatever_a_tool_answers_is_the_bytes_asked_for_or_a_typed_error(size: int, found: list[Message]) -> None:
    left = iter(found)
    try:
        assert len(collect(size, lambda: ended(left))) == size
    except wire.WireError:
        pass


@given(st.binary(min_size=1, max_size=40), st.integers(0, 39))
def test_more_bytes_than_were_asked_for_are_an_error(data: bytes, size: int) -> None:
    if size == 0 or size >= len(data):
        assert collect(len(data), iter([*pieces(data)]).__next__) == data
        return
    with pytest.raises(wire.WireError, match=f"expected {size} bytes, got {len(data)}"):
        collect(size, iter([*pieces(data)]).__next__)


@pytest.mark.parametrize("piece", [{}, {"data": "7"}, {"data": "QQ==!"}, {"data": None}, {"data": "\u00e9"}])
def test_piece_that_is_none_is_an_error(piece: Message) -> None:
    with pytest.raises(wire.WireError, match="a piece is not base64"):
        joined([piece])
