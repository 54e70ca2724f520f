"""A board is asked what it runs, whatever its sequence number is, whatever else is on the line, and never for ever.

Source: Klipper's ``docs/Protocol.md`` (message blocks, variable length quantities, acknowledgements).
"""

import json
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_board import SimulatedBoard

from fleetflash.agent.protocols import klipper
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError
from fleetflash.agent.protocols.klipper import (
    block,
    crc16,
    decode_int,
    encode_int,
    identify,
    parse_dictionary,
    split_blocks,
)
from fleetflash.lab.image import build_image

DICTIONARY = zlib.compress(
    json.dumps({"version": "v1", "build_versions": "gcc 12", "config": {"MCU": "ch32v203", "CLOCK_FREQ": 7}}).encode()
)


class FakePort:
    """Feeds what is written to ``board``, and hands out what that returns, never more than asked for."""

    name = "/dev/ttyTEST"

    def __init__(self, board: Callable[[bytes], bytes], waiting: bytes = b"") -> None:
        self.board, self._input, self.written = board, waiting, b""

    def write(self, data: bytes) -> None:
        self.written += data
        self._input += self.board(data)

    def read(self, size: int, timeout: float) -> bytes:
        if not self._input:
            time.sleep(min(timeout, 0.01))
        taken, self._input = self._input[:size], self._input[size:]
        return taken

    def discard_input(self) -> None:
        self._input = b""

    def set_baudrate(self, baudrate: int) -> None: ...
    def play(self, steps: Any) -> None: ...
    def close(self) -> None: ...


class Firmware:
    """The board's side of the protocol: in order, acknowledged with the next number, 40 bytes of dictionary a block."""

    def __init__(self, expects: int = 0, data: bytes = DICTIONARY) -> None:
        self.expects, self.data, self.blocks = expects, data, 0
        self.disturb: Callable[[int, bytes], bytes] = lambda number, answer: answer

    def __call__(self, request: bytes) -> bytes:
        self.blocks += 1
        return self.disturb(self.blocks, self._answer(request))

    def _answer(self, request: bytes) -> bytes:
        ((sequence, payload),) = split_blocks(bytearray(request))
        if sequence != self.expects:
            return block(self.expects, b"")
        self.expects = (self.expects + 1) & 0x0F
        message, position = decode_int(payload, 0)
        offset, position = decode_int(payload, position)
        count, _ = decode_int(payload, position)
        assert message == 1 and count == 40
        piece = self.data[offset : offset + count]
        response = b"\0" + encode_int(offset) + bytes([len(piece)]) + piece
        return block(self.expects, response) + block(self.expects, b"")


# Encoding


def test_crc_is_that_of_the_catalogue() -> None:
    """CRC-16/MCRF4XX in the catalogue of parametrised CRC algorithms: check value 0x6f91."""
    assert crc16(b"123456789") == 0x6F91
    assert crc16(b"") == 0xFFFF


def test_block_is_that_of_klippers_own_msgproto() -> None:
    """``identify offset=0 count=40`` with sequence 0; an empty block is 5 bytes."""
    assert block(0, b"\x01\x00\x28").hex() == "08100100285e9f7e"
    assert block(17, b"")[:2].hex() == "0511" and len(block(0, b"")) == 5


@pytest.mark.parametrize(
    ("lowest", "highest", "size"),
    [
        (-32, 95, 1),
        (-4096, 12287, 2),
        (-524288, 1572863, 3),
        (-67108864, 201326591, 4),
        (-2147483648, 4294967295, 5),
    ],
)
def test_numbers_take_as_many_bytes_as_the_documents_table_says(lowest: int, highest: int, size: int) -> None:
    for value in (lowest, highest):
        assert len(encode_int(value)) == size
        assert decode_int(encode_int(value), 0) == (value, size)
    if size < 5:
        assert len(encode_int(lowest - 1)) == len(encode_int(highest + 1)) == size + 1


@pytest.mark.parametrize(
    ("value", "coded"),
    [
        (0, "00"),
        (-1, "7f"),
        (-32, "60"),
        (95, "5f"),
        (96, "8060"),
        (-33, "ff5f"),
        (0x3000, "80e000"),
        (-4097, "ffdf7f"),
    ],
)
def test_numbers_are_coded_sign_first(value: int, coded: str) -> None:
    assert encode_int(value).hex() == coded
    assert decode_int(bytes.fromhex(coded), 0) == (value, len(coded) // 2)


@given(st.integers(-(2**31), 2**32 - 1), st.binary(max_size=3))
def test_every_number_survives_the_round_trip_wherever_it_stands(value: int, before: bytes) -> None:
    coded = before + encode_int(value) + b"\x7f"
    assert decode_int(coded, len(before)) == (value, len(coded) - 1)


def test_number_that_is_cut_short_is_an_error() -> None:
    for cut in (b"", b"\x80", b"\xff\xff"):
        with pytest.raises(ProtocolError, match="ends inside a number"):
            decode_int(cut, 0)


@given(st.binary(max_size=40), st.integers(0, 15), st.binary(max_size=59))
def test_block_is_found_behind_any_noise(noise: bytes, sequence: int, payload: bytes) -> None:
    """Noise can look like the beginning of a block, but not like a whole one; at most it hides what it claims to be."""
    good = block(sequence, payload)
    buffer = bytearray(noise + b"\x7e" + good * 70)
    found = split_blocks(buffer)
    assert (sequence, payload) in found
    assert all(each == (sequence, payload) for each in found)


def test_block_that_comes_in_pieces_is_found_when_it_is_whole() -> None:
    whole, buffer = block(3, b"hello"), bytearray()
    for number, byte in enumerate(whole, 1):
        buffer.append(byte)
        assert split_blocks(buffer) == ([(3, b"hello")] if number == len(whole) else [])
    assert buffer == b""


@pytest.mark.parametrize("damaged", [0, 1, 4, 6, 7, 9])
def test_damaged_block_is_dropped_and_the_next_one_found(damaged: int) -> None:
    broken = bytearray(block(3, b"hello"))
    broken[damaged] ^= 0x04
    assert split_blocks(bytearray(bytes(broken) + 14 * block(4, b""))) == 14 * [(4, b"")]


# Asking


@pytest.mark.parametrize("expects", [0, 1, 7, 15])
def test_boards_sequence_number_is_taken_over_whatever_it_is(expects: int) -> None:
    """It outlives a port's opening: the first question is answered by the number that the board waits for."""
    firmware = Firmware(expects)
    started = time.monotonic()
    found = identify(FakePort(firmware))
    assert (found.version, found.build_versions, found.constants) == (
        "v1",
        "gcc 12",
        {"MCU": "ch32v203", "CLOCK_FREQ": 7},
    )
    assert found.raw == DICTIONARY
    pieces = len(DICTIONARY) // 40 + 2
    assert firmware.blocks <= pieces + 1
    # Its refusal says the number at once. Only 1 looks like an acknowledgement of 0, and is waited out.
    assert time.monotonic() - started < (0.9 if expects == 1 else 0.4)


def test_second_conversation_goes_on_where_the_first_one_ended() -> None:
    firmware = Firmware()
    identify(FakePort(firmware))
    assert firmware.expects != 0
    assert identify(FakePort(firmware)).version == "v1"


def test_noise_and_other_messages_are_not_taken_for_answers() -> None:
    """A board that has just started says ``starting``, sends stats, and may finish a broken block."""
    firmware = Firmware(9)
    other = block(9, encode_int(82) + encode_int(500)) + b"\x30\x19garbage\x7e" + bytes(range(0x80, 0xA0)) + b"\x7e"
    firmware.disturb = lambda number, answer: other + answer + other
    assert identify(FakePort(firmware, waiting=b"old" + block(2, b"\0\0\x01x"))).version == "v1"


def test_answer_that_was_lost_is_asked_for_again() -> None:
    firmware = Firmware()
    firmware.disturb = lambda number, answer: b"" if number % 3 == 1 else answer
    assert identify(FakePort(firmware), timeout=0.02).raw == DICTIONARY


@pytest.mark.parametrize("garbled", range(0, 53, 4))
def test_answer_that_was_garbled_is_asked_for_again(garbled: int) -> None:
    """Wherever it strikes: a byte of the rest may look like the beginning of a block that never ends."""
    firmware = Firmware()
    firmware.disturb = lambda number, answer: (
        answer[:garbled] + bytes([answer[garbled] ^ 0x10]) + answer[garbled + 1 :] if number == 2 else answer
    )
    assert identify(FakePort(firmware), timeout=0.02).raw == DICTIONARY


def test_answer_to_an_earlier_question_is_not_put_in_a_later_place() -> None:
    """A late answer carries its offset; taken for the next piece it would make a dictionary that isn't the board's."""
    firmware = Firmware()
    late = block(1, b"\0\0" + bytes([40]) + DICTIONARY[:40])
    firmware.disturb = lambda number, answer: late + answer
    assert identify(FakePort(firmware)).raw == DICTIONARY


def test_silence_is_an_error_in_time_that_names_the_port() -> None:
    port = FakePort(lambda request: b"")
    started = time.monotonic()
    with pytest.raises(NoAnswerError, match=r"/dev/ttyTEST: no Klipper firmware answers identify"):
        identify(port, timeout=0.05, tries=3)
    assert 0.15 <= time.monotonic() - started < 10
    assert len(port.written) == 3 * 8


def test_board_that_only_says_no_is_given_up() -> None:
    numbers = iter(range(1, 1000, 5))
    with pytest.raises(NoAnswerError):
        identify(FakePort(lambda request: block(next(numbers), b"")), timeout=0.05, tries=3)


@pytest.mark.parametrize(
    "data",
    [
        b"not zlib at all" * 5,
        zlib.compress(b"not json"),
        zlib.compress(b"[1, 2]"),
        zlib.compress(b'{"version": "v1"}'),
        zlib.compress(b'{"version": "v1", "config": 7}'),
        DICTIONARY[:-20],
        b"",
        zlib.compress(b"[" * 100_000),
        zlib.compress(b" " * (klipper.MAX_TEXT + 1)),
    ],
)
def test_what_is_no_dictionary_is_an_error_that_names_the_port(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"/dev/ttyTEST: the board sent no Klipper dictionary"):
        identify(FakePort(Firmware(data=data)))


@given(st.binary(max_size=120))
def test_whatever_a_board_sends_is_a_dictionary_or_a_typed_error(data: bytes) -> None:
    for sent in (data, zlib.compress(data)):
        with pytest.raises(ProtocolError):
            identify(FakePort(Firmware(data=sent)))


def test_a_few_bytes_that_inflate_to_any_amount_take_little_memory() -> None:
    bomb = zlib.compress(bytes(64 << 20), 9)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="cut off, or longer than"):
            parse_dictionary(bomb, "/dev/ttyTEST")
        assert tracemalloc.get_traced_memory()[1] < 3 * klipper.MAX_TEXT
    finally:
        tracemalloc.stop()


def test_dictionary_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(klipper, "MAX_DICTIONARY", 400)
    firmware = Firmware(data=bytes(10_000))
    with pytest.raises(ProtocolError, match="does not end within 400 bytes"):
        identify(FakePort(firmware))
    assert firmware.blocks == 10


# The simulated board


def test_simulated_board_says_what_its_image_holds_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 250000 bit/s on a pseudo-terminal, twice: the second time, its sequence number isn't 0 any more."""
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: [])
    board = SimulatedBoard(tmp_path, image=build_image("v0.12.0-7-gabc", constants={"FEATURE": "x"})).wait()
    try:
        for _ in range(2):
            port = board.open(baudrate=250000)
            found = identify(port)
            port.close()
            assert found.version == "v0.12.0-7-gabc"
            assert (found.constants["MCU"], found.constants["FEATURE"]) == ("ch32v203c8", "x")
        port = board.open(baudrate=115200)
        with pytest.raises(NoAnswerError):
            identify(port, timeout=0.1, tries=2)
        port.close()
    finally:
        board.stop()
