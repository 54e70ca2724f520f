"""The flasher speaks Katapult byte for byte, sends again what may be sent again, and believes nothing else.

Sources: Katapult's ``protocol.md`` (every frame; the two of NACK and command error stand there with their CRC),
``src/flashcmd.c`` (order of the connect answer's fields) and ``src/stm32/flash.c`` (which blocks may be repeated).
"""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_port import NAME, NoisyPort, ScriptedPort

from fleetflash.agent.protocols import katapult
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, RefusedError
from fleetflash.agent.protocols.katapult import Bootloader, Katapult, frame, split_frames

START, BLOCK = 0x0800_2000, bytes(range(64))
NACK, FAILED = bytes.fromhex("0188f10068959903"), bytes.fromhex("0188f20000bf9903")
CONNECTED = struct.pack("<4I", 0x11, 0x0001_0100, START, 64) + b"stm32f103xe\0v0.0.1-75\0\0\0"


def acknowledged(payload: bytes) -> bytes:
    return frame(katapult.ACK, payload)


@pytest.mark.parametrize("text", ["0188f10068959903", "0188f20000bf9903"])
def test_crc_is_that_of_the_frames_in_the_protocol_description(text: str) -> None:
    """protocol.md, sections "NACK: 0xf1" and "Command Error: 0xf2"."""
    assert frame(bytes.fromhex(text)[2]).hex() == text


@pytest.mark.parametrize(
    ("call", "sent", "answer"),
    [
        (lambda k: k.connect(), "01881100f17c9903", CONNECTED),
        (lambda k: k.send_block(START, BLOCK), "01881211", struct.pack("<2I", 0x12, START)),
        (lambda k: k.end_of_file(), "01881300414f9903", struct.pack("<2I", 0x13, 3)),
        (lambda k: k.read_block(START, 64), "01881401002000085bde9903", struct.pack("<2I", 0x14, START) + BLOCK),
        (lambda k: k.complete(), "01881500911b9903", struct.pack("<I", 0x15)),
    ],
    ids=["connect", "send block", "eof", "read block", "complete"],
)
def test_golden_frames(call: object, sent: str, answer: bytes) -> None:
    """protocol.md, section "Commands": header, command, words, payload, CRC low byte first, trailer."""
    port = ScriptedPort(lambda written: acknowledged(answer))
    call(Katapult(port))  # type: ignore[operator]
    assert [written.hex()[: len(sent)] for written in port.written] == [sent]


def test_block_goes_out_with_its_address_and_ends_with_crc_and_trailer() -> None:
    port = ScriptedPort(lambda written: acknowledged(struct.pack("<2I", 0x12, START)))
    Katapult(port).send_block(START, BLOCK)
    assert port.written[0][4:8] == bytes.fromhex("00200008") and port.written[0][8:-4] == BLOCK
    assert port.written[0][-2:] == b"\x99\x03" and len(port.written[0]) == 76


def test_connect_reads_what_the_bootloader_says_of_itself() -> None:
    """src/flashcmd.c, command_connect: version, application start, block size, then two texts that end with zero."""
    found = Katapult(ScriptedPort(lambda written: acknowledged(CONNECTED))).connect()
    assert found == Bootloader("stm32f103xe", START, 64, "1.1.0", "v0.0.1-75")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (struct.pack("<2I", 0x0001_0000, START), "expected at least 12 bytes"),
        (struct.pack("<3I", 0x0002_0000, START, 64) + b"rp2040\0\0", "protocol 2.0.0"),
        (struct.pack("<3I", 0x0001_0000, START, 48) + b"rp2040\0\0", "blocks of 48"),
        (struct.pack("<3I", 0x0001_0000, START, 64) + b"\xff\xff\0\0", "no name of a microcontroller"),
        (struct.pack("<3I", 0x0001_0000, START, 64), "no name of a microcontroller"),
    ],
)
def test_connect_answers_that_make_no_sense_are_not_worked_with(payload: bytes, words: str) -> None:
    port = ScriptedPort(lambda written: acknowledged(struct.pack("<I", 0x11) + payload))
    with pytest.raises(ProtocolError, match=words):
        Katapult(port).connect()


@pytest.mark.parametrize("first", [NACK, b"", b"\x01\x88\xa0", b"noise", FAILED[:5] + NACK])
def test_garbled_or_lost_command_is_sent_again(first: bytes) -> None:
    answers = iter([first, acknowledged(struct.pack("<2I", 0x12, START))])
    port = ScriptedPort(lambda written: next(answers))
    Katapult(port).send_block(START, BLOCK)
    assert len(port.written) == 2 and port.written[0] == port.written[1]


def test_command_that_failed_is_not_sent_again() -> None:
    port = ScriptedPort(lambda written: FAILED)
    with pytest.raises(RefusedError, match="send block at 0x08002000"):
        Katapult(port).send_block(START, BLOCK)
    assert len(port.written) == 1


def test_late_acknowledgement_of_another_block_is_passed_over() -> None:
    late = acknowledged(struct.pack("<2I", 0x14, START - 64) + bytes(64))
    port = ScriptedPort(lambda written: late + acknowledged(struct.pack("<2I", 0x14, START) + BLOCK))
    assert Katapult(port).read_block(START, 64) == BLOCK


def test_block_of_another_length_is_an_error() -> None:
    port = ScriptedPort(lambda written: acknowledged(struct.pack("<2I", 0x14, START) + BLOCK[:60]))
    with pytest.raises(ProtocolError, match="expected 64 bytes, got 60"):
        Katapult(port).read_block(START, 64)


def test_silence_and_noise_are_told_apart() -> None:
    with pytest.raises(NoAnswerError, match=f"{NAME}: eof: no answer"):
        Katapult(ScriptedPort()).end_of_file()
    with pytest.raises(ProtocolError, match=f"{NAME}: eof: not a Katapult answer: 6869") as caught:
        Katapult(ScriptedPort(lambda written: b"hi")).end_of_file()
    assert not isinstance(caught.value, NoAnswerError)


# Every parser, against anything


@given(st.binary(max_size=200), st.sampled_from([frame(katapult.ACK, CONNECTED), NACK, FAILED]), st.binary(max_size=50))
def test_frame_is_found_behind_whatever_came_before(noise: bytes, whole: bytes, rest: bytes) -> None:
    """Unless the noise looks like the beginning of a frame: then the command is sent again."""
    noise = noise.replace(katapult.HEADER, b"")
    if noise.endswith(katapult.HEADER[:1]):
        noise += b"\0"
    frames = split_frames(bytearray(noise + whole + rest))
    assert (whole[2], whole[4:-4]) in frames


@given(st.binary(max_size=600))
def test_splitting_never_makes_frames_of_noise_and_leaves_less_than_one(noise: bytes) -> None:
    buffer = bytearray(noise)
    for code, payload in split_frames(buffer):
        assert frame(code, payload) in noise
    assert len(buffer) < 8 or buffer[:2] == katapult.HEADER


@given(st.binary(max_size=400), st.integers(min_value=0, max_value=4))
def test_garbage_is_a_typed_error_for_every_command(garbage: bytes, index: int) -> None:
    call = [
        lambda k: k.connect(),
        lambda k: k.send_block(START, BLOCK),
        lambda k: k.end_of_file(),
        lambda k: k.read_block(START, 64),
        lambda k: k.complete(),
    ][index]
    with pytest.raises(ProtocolError, match=NAME):
        call(Katapult(ScriptedPort(lambda written: garbage)))
    with pytest.raises(ProtocolError, match=NAME):
        call(Katapult(ScriptedPort(lambda written: acknowledged(b"\0" * 4 + garbage[: len(garbage) // 4 * 4]))))


@given(st.binary(min_size=1, max_size=40))
def test_noise_without_end_is_given_up_after_a_bounded_amount(noise: bytes) -> None:
    port = NoisyPort(noise)
    with pytest.raises(ProtocolError, match="not a Katapult answer"):
        Katapult(port).read_block(START, 64)
    assert port.taken <= Katapult.TRIES * (4096 + 1028)
