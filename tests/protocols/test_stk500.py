"""The flasher speaks both versions of STK500 byte for byte, and takes nothing that is short or out of step.

Sources: Atmel AVR061 (version 1) and AVR068 (version 2); signatures from the data sheets of ATmega328P and ATmega2560;
what the bootloaders make of it from ``optiboot.c`` and ``stk500boot.c``.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_port import NAME, NoisyPort, ScriptedPort

from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, RefusedError
from fleetflash.agent.protocols.stk500v1 import Stk500v1
from fleetflash.agent.protocols.stk500v2 import Stk500v2, message

PAGE = bytes(range(128))
Call = Callable[[Any], object]

# (the command's name in AVR061, what is called, [(what is sent, what is answered), …], what is returned)
V1: list[tuple[str, Call, list[tuple[str, str]], object]] = [
    ("Cmnd_STK_GET_SYNC", lambda isp: isp.sync(), [("3020", "1410")], None),
    ("Cmnd_STK_READ_SIGN", lambda isp: isp.signature(), [("7520", "141e950f10")], bytes.fromhex("1e950f")),
    (
        "Cmnd_STK_READ_PAGE",
        lambda isp: isp.read(0x280, 4),
        [("55400120", "1410"), ("7400044620", "14deadbeef10")],
        bytes.fromhex("deadbeef"),
    ),
    (
        "Cmnd_STK_PROG_PAGE",
        lambda isp: isp.program(0x80, PAGE),
        [("55400020", "1410"), (f"64008046{PAGE.hex()}20", "1410")],
        None,
    ),
    ("Cmnd_STK_LEAVE_PROGMODE", lambda isp: isp.leave(), [("5120", "1410")], None),
]

# As above, with AVR068's names; 1b, sequence, size, 0e, body, XOR.
V2: list[tuple[str, Call, list[tuple[str, str]], object]] = [
    ("CMD_SIGN_ON", lambda isp: isp.sync(), [("1b0100010e0114", "1b01000b0e0100084156524953505f3274")], None),
    (
        "CMD_READ_SIGNATURE_ISP",
        lambda isp: isp.signature(),
        [
            ("1b0100060e1b04300000003d", "1b0100040e1b001e0015"),
            ("1b0200060e1b04300001003f", "1b0200040e1b00980090"),
            ("1b0300060e1b04300002003d", "1b0300040e1b00010008"),
        ],
        bytes.fromhex("1e9801"),
    ),
    (
        "CMD_READ_FLASH_ISP, above 64 Ki words",
        lambda isp: isp.read(0x2_0100, 2),
        [
            ("1b0100050e068001008016", "1b0100020e060010"),
            ("1b0200040e1400022025", "1b0200050e1400abcd0060"),
        ],
        bytes.fromhex("abcd"),
    ),
    (
        "CMD_PROGRAM_FLASH_ISP",
        lambda isp: isp.program(0x100, bytes.fromhex("0102")),
        [
            ("1b0100050e060000008097", "1b0100020e060010"),
            ("1b02000c0e130002c10a404c2000000102ee", "1b0200020e130006"),
        ],
        None,
    ),
    ("CMD_LEAVE_PROGMODE_ISP", lambda isp: isp.leave(), [("1b0100030e11010106", "1b0100020e110007")], None),
]


def script(*answers: str) -> ScriptedPort:
    left = iter(answers)
    return ScriptedPort(lambda written: bytes.fromhex(next(left, "")))


@pytest.mark.parametrize(
    ("speak", "call", "exchange", "expected"),
    [(Stk500v1, *entry[1:]) for entry in V1] + [(Stk500v2, *entry[1:]) for entry in V2],
    ids=[entry[0] for entry in V1 + V2],
)
def test_golden_exchanges(speak: Any, call: Call, exchange: list[tuple[str, str]], expected: object) -> None:
    port = script(*(answer for _, answer in exchange))
    assert call(speak(port)) == expected
    assert [written.hex() for written in port.written] == [sent for sent, _ in exchange]


# Version 1


@pytest.mark.parametrize("answer", ["14", "1401", "1401020304", "141410", "10", "1401020310"])
def test_page_that_is_short_or_out_of_step_is_never_taken(answer: str) -> None:
    with pytest.raises(ProtocolError, match=f"{NAME}: read page at 0x0"):
        Stk500v1(script("1410", answer)).read(0, 4)


@pytest.mark.parametrize("answer", ["11", "13", "15", "1411"])
def test_refusals_of_version_1_are_told_as_such(answer: str) -> None:
    """AVR061: Resp_STK_FAILED, Resp_STK_NODEVICE, Resp_STK_NOSYNC, and FAILED in place of OK."""
    with pytest.raises(RefusedError, match="program page at 0x0"):
        Stk500v1(script("1410", answer)).program(0, PAGE)


def test_address_beyond_16_bits_of_words_is_refused_before_it_is_sent() -> None:
    port = script()
    with pytest.raises(RefusedError, match="beyond the 128 KiB"):
        Stk500v1(port).program(0x2_0000, PAGE)
    assert port.written == []


# Version 2


def test_sequence_numbers_count_up_and_begin_again_with_a_sign_on() -> None:
    """stk500boot.c: some builds take 1 or the next number, and nothing else."""
    port = ScriptedPort(lambda written: message(written[1], bytes([written[5], 0, *([0] if written[5] == 1 else [])])))
    isp = Stk500v2(port)
    isp.sync()
    for _ in range(260):
        isp.leave()
    isp.sync()
    assert [written[1] for written in port.written] == [*(number % 256 for number in range(1, 262)), 1]


@pytest.mark.parametrize(
    "answer",
    [
        message(2, b"\x11\x00"),
        message(1, b"\x06\x00"),
        message(1, b"\x11"),
        message(1, b"\x11\x00")[:-1] + b"\0",
        message(1, b"\x11\x00")[:4],
        message(1, b"\x11\x00")[:6],
        b"\x1b\x01\xff\xff\x0e",
        b"no answer at all",
    ],
    ids=["sequence", "command", "no status", "checksum", "half a header", "half a body", "endless", "noise"],
)
def test_answers_of_version_2_that_are_not_to_the_message_are_typed_errors(answer: bytes) -> None:
    with pytest.raises(ProtocolError, match=f"{NAME}: leave programming mode") as caught:
        Stk500v2(ScriptedPort(lambda written: answer)).leave()
    assert not isinstance(caught.value, (NoAnswerError, RefusedError))


def test_refusal_of_version_2_says_its_status() -> None:
    """AVR068, "Status constants": C0 is STATUS_CMD_FAILED."""
    with pytest.raises(RefusedError, match="status c0"):
        Stk500v2(ScriptedPort(lambda written: message(1, b"\x11\xc0"))).leave()
    both = iter([message(1, b"\x06\x00"), message(2, b"\x14\x00\xab\xcd\xc0")])
    with pytest.raises(RefusedError, match="read flash at 0x0: refused with status c0"):
        Stk500v2(ScriptedPort(lambda written: next(both))).read(0, 2)


def test_read_of_version_2_never_returns_less_than_was_asked() -> None:
    answers = iter([message(1, b"\x06\x00"), message(2, b"\x14\x00\xab\x00")])
    with pytest.raises(ProtocolError, match="expected 2 bytes, got 1"):
        Stk500v2(ScriptedPort(lambda written: next(answers))).read(0, 2)


# Both, against anything

CALLS = [(Stk500v1, entry[1]) for entry in V1] + [(Stk500v2, entry[1]) for entry in V2]


@pytest.mark.parametrize("speak", [Stk500v1, Stk500v2])
def test_silence_is_an_error_of_its_own(speak: Any) -> None:
    with pytest.raises(NoAnswerError, match=f"{NAME}: leave programming mode: no answer within 1 s"):
        speak(script()).leave()


@given(st.binary(max_size=300), st.sampled_from(CALLS))
def test_garbage_gives_a_typed_error_or_an_answer_and_never_hangs(garbage: bytes, asked: tuple[Any, Call]) -> None:
    port = ScriptedPort(lambda written: garbage)
    try:
        asked[1](asked[0](port))
    except ProtocolError as error:
        assert NAME in str(error)
    assert len(port.written) <= 3


@given(st.binary(max_size=300))
def test_noise_before_an_answer_of_version_2_is_passed_over(noise: bytes) -> None:
    noise = noise.replace(b"\x1b", b"")
    Stk500v2(ScriptedPort(lambda written: noise + message(1, b"\x11\x00"))).leave()


@given(st.binary(min_size=1, max_size=20), st.sampled_from(CALLS))
def test_noise_without_end_is_given_up_after_a_bounded_amount(noise: bytes, asked: tuple[Any, Call]) -> None:
    port = NoisyPort(noise)
    try:
        asked[1](asked[0](port))
    except ProtocolError:
        pass
    assert port.taken <= 3 * (2048 + 300)
