"""The flasher speaks WCH ISP byte for byte, believes no answer that it has not checked, and touches no wrong board.

Sources of the frames (USB captures carry the same payload without ``57 ab``/``55 aa`` and sum):

- UART captures: frank-zago/isp55e0 issue 2 (WCH's own Linux tool, CH573F), jmaselbas/wch-isp issue 5 (CH32V307), and
  ch32-rs/wchisp pull request 56 (the answer to C5 of a CH32V203C8T6),
- USB captures: frank-zago/isp55e0 ``protocol.txt`` (WCHISPTool), jmaselbas/wch-isp issue 3 (CH32V203C8T6 and K8T6),
  ch32-rs/wchisp issues 5 (CH573F, encrypted chunks) and 103 (CH32V203C8T6, option bytes), and the refusals in
  isp55e0 issue 2 (program, ``fe 00``) and wch-isp issue 2 (verify, ``f5 00``),
- ch32-rs/wchisp ``src/protocol.rs``, ``src/flashing.rs`` and ``src/transport/serial.rs``.
"""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetflash.agent.protocols import wch_isp
from fleetflash.agent.protocols.errors import (
    NoAnswerError,
    ProtectedError,
    ProtocolError,
    RefusedError,
    VerifyError,
)
from fleetflash.agent.protocols.wch_isp import (
    END,
    ERASE,
    IDENTIFY,
    KEY,
    NAMES,
    PROGRAM,
    READ_CONFIG,
    SET_BAUD,
    VERIFY,
    WRITE_CONFIG,
    WchIsp,
    session_key,
)

C8T6, UID = 0x31, bytes.fromhex("cdab1a35e2bdc99e")
#: Option bytes, bootloader 02.70 and unique id of a real CH32V203C8T6 (wchisp issue 103).
CONFIG = bytes.fromhex("a55a3fc000ff00ffffffffff" + "00020700") + UID
IMAGE = bytes(range(200)) * 2

# (what is asked, the request, the answer), both whole frames
GOLDEN: list[tuple[int, str, str]] = [
    # UART, wch-isp issue 5 and isp55e0 issue 2: this request, and "55 aa a1 00 02 00 71 17 2b" of a CH32V307.
    (IDENTIFY, "57aba1120000004d4355204953502026205743482e434eab", "55aaa10002003119ed"),
    # UART, isp55e0 issue 2; the answer's data from wchisp issue 103.
    (READ_CONFIG, "57aba702001f00c8", "55aaa7001a001f00a55a3fc000ff00ffffffffff00020700cdab1a35e2bdc99eae"),
    # wchisp src/flashing.rs: a zero seed of 0x1e bytes; answer: 7 * 0xcd + 0xfe = 0x99.
    (KEY, "57aba31e00" + 30 * "00" + "c1", "55aaa300020099003e"),
    # isp55e0 protocol.txt: "a4 04 00 08 00 00 00"; UART answer with its sum, isp55e0 issue 2.
    (ERASE, "57aba4040008000000b0", "55aaa40002000000a6"),
    # wchisp src/protocol.rs, Program; eight bytes 01..08 under the key cd cd cd cd cd cd cd fe, padding 0.
    (PROGRAM, "57aba50d000000000000cccfcec9c8cbcaf637", "55aaa50002000000a7"),
    # isp55e0 protocol.txt, "a6 00 02 00 00 00"; the request as for A5.
    (VERIFY, "57aba60d000000000000cccfcec9c8cbcaf638", "55aaa60002000000a8"),
    # isp55e0 protocol.txt: "a2 01 00 01" and "a2 00 02 00 00 00".
    (END, "57aba2010001a4", "55aaa20002000000a4"),
    # wchisp src/flashing.rs, unprotect: a5 5a first, ff ff ff ff last; UART answer with its sum, isp55e0 issue 2.
    (WRITE_CONFIG, "57aba80e000700a55a3fc000ff00ffffffffffb5", "55aaa80002000000aa"),
    # wchisp src/transport/serial.rs, 1000000; the answer of a CH32V203C8T6 in wchisp pull request 56.
    (SET_BAUD, "57abc5040040420f005a", "55aac50002000000c7"),
]


def answer(command: int, data: bytes) -> bytes:
    body = bytes([command, 0]) + struct.pack("<H", len(data)) + data
    return b"\x55\xaa" + body + bytes([sum(body) & 0xFF])


def honest(command: int, data: bytes) -> bytes:
    """The data with which a healthy, unprotected CH32V203C8T6 answers."""
    if command == IDENTIFY:
        return bytes([C8T6, 0x19])
    if command == READ_CONFIG:
        return bytes([data[0], 0]) + (CONFIG if data[0] == 0x1F else CONFIG[:12])
    if command == KEY:
        return bytes([sum(session_key(UID, C8T6)) & 0xFF, 0])
    return b"\0\0"


class ScriptedPort:
    """Answers frames from a script: ``behave`` maps a command to whole frames, given the request's data."""

    name = "/dev/ttyTEST"

    def __init__(self, behave: Callable[[int, bytes], bytes | None] = lambda command, data: None) -> None:
        self.behave = behave
        self.requests: list[bytes] = []
        self.rates: list[int] = []
        self._input = b""

    def write(self, data: bytes) -> None:
        self.requests.append(data)
        frame = self.behave(data[2], data[5:-1])
        self._input += answer(data[2], honest(data[2], data[5:-1])) if frame is None else frame

    def read(self, size: int, timeout: float) -> bytes:
        taken, self._input = self._input[:size], self._input[size:]
        return taken

    def discard_input(self) -> None:
        self._input = b""

    def set_baudrate(self, baudrate: int) -> None:
        self.rates.append(baudrate)

    def play(self, steps: Any) -> None:
        raise AssertionError("no conversation moves the lines")

    def close(self) -> None:
        pass

    def commands(self) -> list[int]:
        return [request[2] for request in self.requests]


def ignore(done: int, total: int) -> None:
    pass


#: What has to be done for a command to be sent.
CALLS: dict[int, Callable[[WchIsp], object]] = {
    IDENTIFY: lambda isp: isp.identify(),
    READ_CONFIG: lambda isp: isp.identify(),
    KEY: lambda isp: isp.program(b"", ignore),
    ERASE: lambda isp: isp.erase(len(IMAGE)),
    PROGRAM: lambda isp: isp.program(IMAGE, ignore),
    VERIFY: lambda isp: isp.verify(IMAGE, ignore),
    END: lambda isp: isp.reset(),
    WRITE_CONFIG: lambda isp: isp.unprotect(),
    SET_BAUD: lambda isp: isp.speed_up(),
}


def identified(port: ScriptedPort) -> WchIsp:
    """A conversation whose chip is known, then as ``behave`` says."""
    behave, port.behave = port.behave, lambda command, data: None
    isp = WchIsp(port)
    isp.identify()
    port.behave = behave
    port.requests.clear()
    return isp


# Frames


def test_every_command_has_a_golden_frame() -> None:
    assert {command for command, _, _ in GOLDEN} == set(NAMES) == set(CALLS)


@pytest.mark.parametrize(("command", "request_frame", "answer_frame"), GOLDEN, ids=[NAMES[c] for c, _, _ in GOLDEN])
def test_golden_frames(command: int, request_frame: str, answer_frame: str) -> None:
    """The request is exactly this, and exactly this answer is taken for a success."""
    port = ScriptedPort(lambda asked, data: bytes.fromhex(answer_frame) if asked == command else None)
    isp = identified(port)
    if command in (PROGRAM, VERIFY):
        call = isp.program if command == PROGRAM else isp.verify
        call(bytes(range(1, 9)), ignore)
    else:
        CALLS[command](isp)
    sent = [request.hex() for request in port.requests if request[2] == command]
    assert sent[0] == request_frame


def test_identify_reads_the_facts_of_a_real_chip() -> None:
    chip = WchIsp(ScriptedPort()).identify()
    assert chip == wch_isp.Chip(
        chip_id=0x31, device_type=0x19, uid="cdab1a35e2bdc99e", bootloader="02.70", protected=False
    )


def test_chunk_is_encrypted_as_in_a_capture_of_wchisp() -> None:
    """wchisp issue 5, a CH573F with unique id 0b5ddce4c284a9c6: only the random padding byte, here 0, differs."""
    uid, chip_id = bytes.fromhex("0b5ddce4c284a9c6"), 0x73
    captured = bytes.fromhex(
        "a53d000000000089b2dd5dbbdddddd50ddddddddb2dd5d58b2dd9dc3dddddd50dddddddddddddd50dddddddddddddd50dddddddddddddd50"
        "ddddddddb2dd9d56"
    )
    key = session_key(uid, chip_id)
    image = bytes(byte ^ key[index % 8] for index, byte in enumerate(captured[8:]))
    assert image[:4].hex() == "6f008066"  # a jump, as at the start of every RISC-V image

    def behave(command: int, data: bytes) -> bytes | None:
        config = b"\x1f\0" + CONFIG[:16] + uid
        known = {IDENTIFY: bytes([chip_id, 0x13]), READ_CONFIG: config, KEY: b"\x5b\0"}
        return answer(command, known[command]) if command in known else None

    port = ScriptedPort(behave)
    isp = WchIsp(port)
    isp.identify()
    isp.program(image, ignore)
    sent = next(request for request in port.requests if request[2] == PROGRAM)
    assert sent[2:-1] == captured[:7] + b"\0" + captured[8:]


@pytest.mark.parametrize(
    ("uid", "chip_id", "checksum"),
    [
        ("cdab666755bc88cf", 0x32, 0x9A),  # CH32V203K8T6, bootloader 02.70: wch-isp issue 3
        ("cdabb88745bccaef", 0x31, 0xB9),  # CH32V203C8T6, bootloader 02.60: wch-isp issue 3
        ("0b5ddce4c284a9c6", 0x73, 0x5B),  # CH573F, bootloader 02.80: wchisp issue 5, isp55e0 issue 2
    ],
)
def test_key_sums_to_what_real_chips_answered(uid: str, chip_id: int, checksum: int) -> None:
    assert sum(session_key(bytes.fromhex(uid), chip_id)) & 0xFF == checksum


def test_image_goes_out_in_chunks_of_56_filled_up_to_a_multiple_of_eight_and_an_empty_one_ends_it() -> None:
    """isp55e0.c rounds up to 8 "as upload protocol requires it"; wchisp needs an empty write for success."""
    port = ScriptedPort()
    progress: list[tuple[int, int]] = []
    isp = identified(port)
    isp.program(bytes(113), lambda done, total: progress.append((done, total)))
    chunks = [(struct.unpack_from("<I", request, 5)[0], request[10:-1]) for request in port.requests[1:]]
    assert [(address, len(data)) for address, data in chunks] == [(0, 56), (56, 56), (112, 8), (120, 0)]
    key = session_key(UID, C8T6)
    assert bytes(byte ^ key[index % 8] for index, byte in enumerate(chunks[2][1])) == b"\0" + b"\xff" * 7
    assert progress == [(56, 120), (112, 120), (120, 120)]
    port.requests.clear()
    isp.verify(bytes(113), ignore)
    assert [request[5:-1] for request in port.requests[1:]] == [
        struct.pack("<IB", address, 0) + data for address, data in chunks[:3]
    ]


@pytest.mark.parametrize(("size", "sectors"), [(1, 8), (8192, 8), (8193, 9), (30 * 1024, 30), (65536, 64)])
def test_erase_covers_the_image_and_never_less_than_the_bootloader_takes(size: int, sectors: int) -> None:
    port = ScriptedPort()
    WchIsp(port).erase(size)
    assert port.requests[0][5:-1] == struct.pack("<I", sectors)


# No answer is believed unchecked


def wrong_first_byte(command: int) -> bytes:
    """An answer in a faultless frame whose first data byte isn't the one of success."""
    return answer(command, b"\x01" + honest(command, b"\x1f\0")[1:])


@pytest.mark.parametrize("command", sorted(set(NAMES) - {IDENTIFY}), ids=lambda command: NAMES[command])
def test_wrong_first_data_byte_is_refused_for_every_command(command: int) -> None:
    """wchisp 0.3 looks at it only for verify: there a failed program passes. An identify has a chip id there."""
    port = ScriptedPort(lambda asked, data: wrong_first_byte(asked) if asked == command else None)
    isp = identified(port)
    with pytest.raises(ProtocolError, match=f"{port.name}: {NAMES[command]}"):
        CALLS[command](isp)
    assert port.commands()[-1] in (command, READ_CONFIG)


@pytest.mark.parametrize("refused", range(9))
def test_every_single_chunk_is_checked_while_programming(refused: int) -> None:
    """400 bytes are eight chunks and the empty one; isp55e0 issue 2 shows a real refusal, ``a5 00 02 00 fe 00``."""
    chunks = iter(range(9))

    def behave(command: int, data: bytes) -> bytes | None:
        return answer(command, b"\xfe\0") if command == PROGRAM and next(chunks) == refused else None

    port = ScriptedPort(behave)
    isp = identified(port)
    with pytest.raises(RefusedError, match=r"program.* status fe"):
        isp.program(IMAGE, ignore)
    assert port.commands().count(PROGRAM) == refused + 1


def test_verify_says_where_the_flash_differs() -> None:
    """wch-isp issue 2: a real mismatch, or a protected chip, answers ``f5 00``."""

    def behave(command: int, data: bytes) -> bytes | None:
        return answer(command, b"\xf5\0") if command == VERIFY and data[:4] == struct.pack("<I", 112) else None

    with pytest.raises(VerifyError, match=r"0x0070"):
        identified(ScriptedPort(behave)).verify(IMAGE, ignore)


@pytest.mark.parametrize("command", [ERASE, PROGRAM], ids=["erase", "program"])
def test_refusal_of_a_protected_chip_is_told_as_such(command: int) -> None:
    def behave(asked: int, data: bytes) -> bytes | None:
        if asked == READ_CONFIG:
            return answer(asked, bytes([data[0], 0]) + b"\xff" + CONFIG[1:])
        return answer(asked, b"\xfe\0") if asked == command else None

    with pytest.raises(ProtectedError, match=r"read-protected"):
        CALLS[command](identified(ScriptedPort(behave)))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "half a header": lambda frame: frame[:4],
    "no data": lambda frame: frame[:6],
    "data cut short": lambda frame: frame[:-2],
    "no sum": lambda frame: frame[:-1],
    "wrong sum": lambda frame: frame[:-1] + bytes([frame[-1] ^ 1]),
    "wrong header": lambda frame: b"\x57\xab" + frame[2:],
    "another command's answer": lambda frame: frame[:2] + bytes([frame[2] ^ 0x0F]) + frame[3:],
    "an answer without data": lambda frame: answer(frame[2], b""),
    "a length far too long": lambda frame: frame[:4] + b"\xff\xff" + frame[6:],
    "noise": lambda frame: bytes(range(0x80, 0x90)),
}


@pytest.mark.parametrize("command", sorted(NAMES), ids=lambda command: NAMES[command])
def test_damaged_answers_and_silence_are_typed_errors_that_name_port_and_command(command: int) -> None:
    for damage in DAMAGES.values():

        def behave(asked: int, data: bytes, damage: Callable[[bytes], bytes] = damage) -> bytes | None:
            return damage(answer(asked, honest(asked, data))) if asked == command else None

        with pytest.raises(ProtocolError, match=f"{ScriptedPort.name}: {NAMES[command]}") as caught:
            CALLS[command](identified(ScriptedPort(behave)))
        assert not isinstance(caught.value, NoAnswerError)
    silent = identified(ScriptedPort(lambda asked, data: b"" if asked == command else None))
    with pytest.raises(NoAnswerError, match=f"{ScriptedPort.name}: {NAMES[command]}: no answer"):
        CALLS[command](silent)


def test_answer_that_came_late_is_not_taken_for_the_next_one() -> None:
    port = ScriptedPort()
    isp = identified(port)
    port._input = answer(ERASE, b"\0\0")
    port.behave = lambda command, data: answer(command, b"\xfe\0") if command == ERASE else None
    with pytest.raises(RefusedError):
        isp.erase(1)


# Rates


def test_rate_changes_only_after_the_bootloader_has_agreed() -> None:
    port = ScriptedPort()
    assert WchIsp(port).speed_up() == 1_000_000
    assert port.rates == [1_000_000]


def test_bootloader_that_knows_no_other_rate_is_left_at_115200() -> None:
    """wchisp src/transport/serial.rs: 0xfe means that custom rates are not supported."""
    port = ScriptedPort(lambda command, data: answer(command, b"\xfe\0"))
    assert WchIsp(port).speed_up() == 115200
    assert port.rates == []


# Protection


def test_lifting_the_protection_changes_nothing_else_in_the_option_bytes() -> None:
    """The other bytes are the chip's: here with a watchdog bit and user data that differ from the factory's."""
    options = bytes.fromhex("ff003fc8 12ed34cb fdffffff")

    def behave(command: int, data: bytes) -> bytes | None:
        return answer(command, b"\x07\0" + options) if command == READ_CONFIG and data[0] == 0x07 else None

    port = ScriptedPort(behave)
    identified(port).unprotect()
    written = next(request for request in port.requests if request[2] == WRITE_CONFIG)
    assert written[5:-1].hex() == "0700" + "a55a3fc8" + "12ed34cb" + "ffffffff"
    assert port.commands()[-1] == END


def test_option_bytes_that_could_not_be_read_are_never_written() -> None:
    port = ScriptedPort(lambda command, data: answer(command, b"\xfe\0" + CONFIG) if command == READ_CONFIG else None)
    isp = WchIsp(port)
    with pytest.raises(ProtocolError):
        isp.unprotect()
    assert WRITE_CONFIG not in port.commands()


# Anything


@given(st.binary(max_size=300), st.sampled_from(sorted(CALLS)))
def test_garbage_gives_a_typed_error_and_never_hangs(garbage: bytes, command: int) -> None:
    port = ScriptedPort(lambda asked, data: garbage if asked == command else None)
    with pytest.raises(ProtocolError, match=f"{ScriptedPort.name}: {NAMES[command]}"):
        CALLS[command](identified(port))


@given(st.binary(min_size=6, max_size=40), st.sampled_from(sorted(CALLS)))
def test_whatever_stands_in_a_faultless_frame_gives_a_typed_error_or_is_taken(data: bytes, command: int) -> None:
    port = ScriptedPort(lambda asked, _: answer(asked, data) if asked == command else None)
    try:
        CALLS[command](identified(port))
    except ProtocolError as error:
        assert ScriptedPort.name in str(error)
