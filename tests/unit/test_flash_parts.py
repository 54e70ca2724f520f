"""Whatever an archive of flash pieces holds, it is its pieces, whole, or one typed error."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetflash.agent.protocols.flash_parts import Part, PartsError, pack, unpack


@st.composite
def pieces(draw: st.DrawFn) -> list[Part]:
    found, end = [], 0
    for gap, data in draw(st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=700)), min_size=1)):
        found.append(Part(end + gap, data))
        end = found[-1].end
    return found


def accepted(packed: bytes) -> list[Part]:
    """Return what is read of an archive; nothing where it is refused as it should be."""
    try:
        return unpack(packed)
    except PartsError:
        return []


@given(pieces())
def test_pieces_are_those_that_were_packed(parts: list[Part]) -> None:
    assert unpack(pack(reversed(parts))) == parts


@given(
    pieces(), st.lists(st.tuples(st.integers(0, 1 << 15), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4)
)
def test_damaged_archive_is_refused_or_has_every_piece_in_its_place(
    parts: list[Part], damage: list[tuple[int, bytes]]
) -> None:
    packed = bytearray(pack(parts))
    for place, data in damage:
        at = place % len(packed)
        packed[at : at + len(data)] = data
    # Whether the content of a piece is right, its hash says.
    found = [(part.offset, len(part.data)) for part in accepted(bytes(packed))]
    assert not found or found == [(part.offset, len(part.data)) for part in parts]


@given(pieces(), st.integers(0, 1 << 15))
def test_archive_that_was_cut_off_is_refused(parts: list[Part], size: int) -> None:
    packed = pack(parts)
    assert accepted(packed[: size % len(packed)]) == []


@given(pieces())
def test_archive_of_another_python_is_the_same_pieces(parts: list[Part]) -> None:
    """Some leave the numbers of a device empty in the header of a plain file, some write zeros."""
    packed = bytearray(pack(parts))
    at = 0
    for part in parts:
        header = packed[at : at + 512]
        number = bytes(8) if any(header[329:345]) else b"0000000\0"
        header[329:345] = number * 2
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        packed[at : at + 512] = header
        at += 512 + -(-len(part.data) // 512) * 512
    assert packed != pack(parts) and unpack(bytes(packed)) == parts


@given(st.binary(max_size=2000))
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    assert accepted(data) == []


def headed(**fields: object) -> bytes:
    """Return an archive of one piece whose header says something else, its checksum right."""
    member = tarfile.TarInfo("0x00000000.bin")
    for name, value in fields.items():
        setattr(member, name, value)
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(2 * tarfile.BLOCKSIZE)


@given(
    st.integers(-(1 << 80), 1 << 80),
    st.sampled_from([bytes([kind]) for kind in b"0LKxgXS"]) | st.binary(min_size=1, max_size=1),
)
def test_header_that_lies_about_size_or_kind_takes_no_memory_and_no_time(size: int, kind: bytes) -> None:
    assert accepted(headed(size=size, type=kind)) == []


@pytest.mark.parametrize("again", [2, 5000])
def test_long_names_in_a_row_are_refused(again: int) -> None:
    name = headed(name="././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=15)[: tarfile.BLOCKSIZE]
    value = b"0x00000000.bin\0".ljust(tarfile.BLOCKSIZE, b"\0")
    assert accepted((name + value) * again + pack([Part(0, b"x")])) == []


@pytest.mark.parametrize(
    ("holes", "size", "words"), [("0,1", 1 << 60, "which is no piece of a flash"), ("x", 1, "is no archive")]
)
def test_sparse_piece_is_refused_before_it_is_read(holes: str, size: int, words: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("0x00000000.bin")
        member.size, member.pax_headers = 1, {"GNU.sparse.map": holes, "GNU.sparse.size": str(size)}
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(PartsError, match=words):
        unpack(archive.getvalue())
