"""Characters whose parity bit nobody agrees on, bit by bit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetflash.lab.boards.framing import PARENB, PARODD, Parity, heard_by_chip, heard_by_client

NONE, EVEN, ODD = Parity.NONE, Parity.EVEN, Parity.ODD


def bits(value: int, parity: Parity) -> list[int]:
    """The line levels of one character: start, eight data bits, parity if any, stop."""
    data = [value >> place & 1 for place in range(8)]
    extra = [] if parity is NONE else [sum(data) % 2 ^ (parity is ODD)]
    return [0, *data, *extra, 1]


def receive(line: list[int], parity: Parity) -> tuple[list[int | None], int]:
    """A UART that samples every bit: values, None for a character with an error, and how many bits it took."""
    found: list[int | None] = []
    at = 0
    while at < len(line):
        if line[at]:
            at += 1
            continue
        length = parity.bits
        character = (line[at : at + length] + [1] * length)[:length]
        value = sum(bit << place for place, bit in enumerate(character[1:9]))
        found.append(value if character == bits(value, parity) else None)
        at += length
    return found, at


@given(st.integers(0, 255))
def test_a_lone_character_without_parity_passes_where_its_parity_bit_is_that_of_an_idle_line(value: int) -> None:
    for receiver in (EVEN, ODD):
        expected = [byte for byte in receive(bits(value, NONE), receiver)[0] if byte is not None]
        assert list(heard_by_chip(bytes([value]), NONE, receiver)) == expected


@given(st.integers(0, 255))
def test_a_parity_bit_is_taken_for_the_stop_bit(value: int) -> None:
    found = receive(bits(value, EVEN), NONE)[0][0]
    assert heard_by_client(bytes([value]), EVEN, NONE) == bytes([0 if found is None else found])
    assert heard_by_chip(bytes([value]), EVEN, NONE) == (b"" if found is None else bytes([found]))


@given(st.binary(max_size=40), st.sampled_from(list(Parity)))
def test_ends_that_agree_hear_everything(data: bytes, parity: Parity) -> None:
    assert heard_by_chip(data, parity, parity) == heard_by_client(data, parity, parity) == data


@pytest.mark.parametrize(
    ("cflag", "parity"), [(0, NONE), (PARODD, NONE), (PARENB, EVEN), (PARENB | PARODD, ODD), (0x8BD, NONE)]
)
def test_parity_of_termios_flags(cflag: int, parity: Parity) -> None:
    assert Parity.of(cflag) is parity
    assert parity.bits == (10 if parity is NONE else 11)
