"""The flasher speaks the STM32's bootloader byte for byte, and knows a protected chip when it meets one.

Source: ST AN3155, revision 14; the section of each exchange is beside it. Values in bytes: version 2.2 and the command
list of an STM32F103 (AN3155, section 3.1, and AN2606), product id 0410 (AN2606).
"""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_port import NAME, NoisyPort, ScriptedPort

from fleetflash.agent.protocols.errors import NoAnswerError, ProtectedError, ProtocolError, RefusedError
from fleetflash.agent.protocols.stm32_chips import DEVICES
from fleetflash.agent.protocols.stm32_rom import Bootloader, Stm32Rom

ACK, NACK = "79", "1f"
START = 0x0800_0000
Call = Callable[[Stm32Rom], object]

# (section, what is called, [(what is sent, what is answered), …], what is returned)
GOLDEN: list[tuple[str, Call, list[tuple[str, str]], object]] = [
    ("1, code sequence", lambda rom: rom.synchronize(), [("7f", ACK)], None),
    ("1, a chip that knows its rate", lambda rom: rom.synchronize(), [("7f", ""), ("7f", NACK)], None),
    (
        "3.1 Get, 3.3 Get ID",
        lambda rom: rom.get(),
        [("00ff", "790b22000102112131436373829279"), ("02fd", "7901041079")],
        Bootloader("2.2", frozenset(bytes.fromhex("0001021121314363738292")), 0x410),
    ),
    (
        "3.4 Read Memory",
        lambda rom: rom.read(START + 0x100, 4),
        [("11ee", ACK), ("0800010009", ACK), ("03fc", "79deadbeef")],
        bytes.fromhex("deadbeef"),
    ),
    ("3.5 Go", lambda rom: rom.go(START), [("21de", ACK), ("0800000008", ACK)], None),
    (
        "3.6 Write Memory",
        lambda rom: rom.write(START, bytes.fromhex("00112233")),
        [("31ce", ACK), ("0800000008", ACK), ("030011223303", ACK)],
        None,
    ),
    ("3.7 Erase", lambda rom: rom.erase([8, 9], False, 0.1), [("43bc", ACK), ("01080900", ACK)], None),
    (
        "3.8 Extended Erase",
        lambda rom: rom.erase([2, 256], True, 4.0),
        [("44bb", ACK), ("00010002010002", ACK)],
        None,
    ),
    ("3.12 Readout Unprotect", lambda rom: rom.readout_unprotect(), [("926d", ACK + ACK)], None),
]


def script(*answers: str) -> ScriptedPort:
    left = iter(answers)
    return ScriptedPort(lambda written: bytes.fromhex(next(left, "")))


@pytest.mark.parametrize(("section", "call", "exchange", "expected"), GOLDEN, ids=[entry[0] for entry in GOLDEN])
def test_golden_exchanges(section: str, call: Call, exchange: list[tuple[str, str]], expected: object) -> None:
    port = script(*(answer for _, answer in exchange))
    assert call(Stm32Rom(port)) == expected
    assert [written.hex() for written in port.written] == [sent for sent, _ in exchange]


@pytest.mark.parametrize("code", ["read", "write", "erase", "extended erase", "go"])
def test_refusal_at_the_code_means_read_protection(code: str) -> None:
    """Sections 3.4 to 3.8: "if the read protection is enabled, the bootloader transmits NACK" before anything else."""
    calls: dict[str, Call] = {
        "read": lambda rom: rom.read(START, 4),
        "write": lambda rom: rom.write(START, bytes(4)),
        "erase": lambda rom: rom.erase([0], False, 0.1),
        "extended erase": lambda rom: rom.erase([0], True, 0.1),
        "go": lambda rom: rom.go(START),
    }
    with pytest.raises(ProtectedError, match=r"read-protected.*unprotect = True"):
        calls[code](Stm32Rom(script(NACK)))


@pytest.mark.parametrize("answers", [(ACK, NACK), (ACK, ACK, NACK)])
def test_refusal_at_a_later_step_is_no_protection(answers: tuple[str, ...]) -> None:
    with pytest.raises(RefusedError, match="at 0x1fff7a10: refused") as caught:
        Stm32Rom(script(*answers)).read(0x1FFF_7A10, 12)
    assert not isinstance(caught.value, ProtectedError)


def test_protection_is_seen_without_touching_anything() -> None:
    port = script(NACK)
    assert Stm32Rom(port).is_protected(START)
    assert [written.hex() for written in port.written] == ["11ee"]


def test_many_pages_are_erased_in_several_commands() -> None:
    """Section 3.7: the count is one byte, and FF means the whole flash."""
    port = ScriptedPort(lambda written: b"\x79")
    Stm32Rom(port).erase(list(range(256)), False, 0.1)
    bodies = [written for written in port.written if len(written) > 2]
    assert [body[0] for body in bodies] == [127, 127]
    assert [page for body in bodies for page in body[1:-1]] == list(range(256))


@pytest.mark.parametrize("answers", [("",), ("79", ""), ("79", "79", ""), ("79", "79", "79"), ("79", "79", "79aabb")])
def test_reading_never_returns_less_than_was_asked(answers: tuple[str, ...]) -> None:
    with pytest.raises(ProtocolError, match=f"{NAME}: read memory"):
        Stm32Rom(script(*answers)).read(START, 4)


def test_silence_is_an_error_of_its_own() -> None:
    with pytest.raises(NoAnswerError, match=f"{NAME}: init: no answer"):
        Stm32Rom(script()).synchronize()
    with pytest.raises(NoAnswerError, match=f"{NAME}: erase of sectors 3 to 3: no answer within 5 s"):
        Stm32Rom(script(ACK)).erase([3], False, 4.0)


# How the flash is divided


@pytest.mark.parametrize(
    ("product_id", "start", "end", "sectors"),
    [
        (0x410, 0, 1, [0]),  # RM0008, medium density: 1 KiB pages
        (0x410, 0x2000, 0x2801, [8, 9, 10]),
        (0x414, 0, 4096, [0, 1]),  # high density: 2 KiB pages
        (0x421, 0, 0x1_0001, [0, 1, 2, 3, 4]),  # RM0390: four of 16 KiB, one of 64, then 128
        (0x421, 0x1_0000, 0x2_0001, [4, 5]),
        (0x413, 0xE_0000, 0x10_0000, [11]),
    ],
)
def test_only_the_sectors_that_are_needed_are_named(product_id: int, start: int, end: int, sectors: list[int]) -> None:
    assert DEVICES[product_id].sectors_of(start, end) == sectors


def test_boundaries_are_where_sectors_begin() -> None:
    f446 = DEVICES[0x421]
    assert [f446.is_boundary(offset) for offset in (0, 0x2000, 0x4000, 0x1_0000, 0x1_8000)] == [
        True,
        False,
        True,
        True,
        False,
    ]
    assert {pid: device.writable // 1024 for pid, device in DEVICES.items() if device.writable >= 2**19} == {
        **{0x414: 512, 0x413: 1024, 0x419: 1024, 0x433: 512, 0x431: 512, 0x421: 512},
        **{0x450: 1024, 0x483: 1024},
    }


# Anything


@given(st.binary(max_size=300), st.integers(min_value=0, max_value=len(GOLDEN) - 1))
def test_garbage_gives_a_typed_error_or_an_answer_and_never_hangs(garbage: bytes, index: int) -> None:
    port = ScriptedPort(lambda written: garbage)
    try:
        GOLDEN[index][1](Stm32Rom(port))
    except ProtocolError as error:
        assert NAME in str(error)
    assert len(port.written) <= 4


@given(st.binary(min_size=1, max_size=20))
def test_noise_without_end_is_given_up_after_a_bounded_amount(noise: bytes) -> None:
    port = NoisyPort(noise)
    try:
        Stm32Rom(port).get()
    except ProtocolError:
        pass
    assert port.taken <= 2 * (3 + 256)
