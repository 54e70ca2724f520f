"""Whatever an archive holds, nothing of it lands outside of its directory."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetflash.build.archive import unpack
from fleetflash.build.errors import ArchiveError


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def file(name: str, mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode = mode
    return info


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    return info


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_tar_is_unpacked_with_links_and_executables(tmp_path: Path, compression: str) -> None:
    archive = tar(
        tmp_path / "a.tar",
        (special("./", tarfile.DIRTYPE), b""),
        (file("./gcc-1/bin/gcc", 0o4755), b"#!/bin/sh\n"),
        (link("gcc-1/bin/cc", "gcc"), b""),
        (link("gcc-1/cc", "gcc-1/bin/gcc", tarfile.LNKTYPE), b""),
        (link("gcc-1/bin/up", "../bin/gcc"), b""),
        (file("gcc-1/lib/notes.txt", 0o600), b"text"),
        mode=f"w:{compression}",
    )
    unpack(archive, tmp_path / "out")
    gcc = tmp_path / "out/gcc-1/bin/gcc"
    assert stat.S_IMODE(gcc.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "out/gcc-1/lib/notes.txt").stat().st_mode) == 0o644
    assert (gcc.parent / "cc").readlink() == Path("gcc") and (gcc.parent / "up").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "out/gcc-1/cc").samefile(gcc)


def test_zip_is_unpacked_with_links_and_executables(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, mode, content in (("t/", 0o40755, ""), ("t/gcc", 0o100755, "x" * 9999), ("t/cc", 0o120777, "gcc")):
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert os.access(tmp_path / "out/t/gcc", os.X_OK)
    assert (tmp_path / "out/t/cc").read_text() == "x" * 9999


ESCAPES: dict[str, Callable[[], list[tuple[tarfile.TarInfo, bytes]]]] = {
    "parent": lambda: [(file("../evil"), b"x")],
    "parent below": lambda: [(file("a/../../evil"), b"x")],
    "absolute": lambda: [(file("/tmp/evil"), b"x")],
    "link to outside": lambda: [(link("a", "../evil"), b"")],
    "absolute link": lambda: [(link("a", "/etc/passwd"), b"")],
    "through a link": lambda: [(link("a", ".."), b""), (file("a/evil"), b"x")],
    "through a link that changes its meaning": lambda: [
        (link("x/a", "b/../.."), b""),
        (link("x/b", "."), b""),
        (file("x/a/evil"), b"x"),
    ],
    "link whose way is laid later": lambda: [(link("x/a", "b/../../evil"), b""), (link("x/b", "."), b"")],
    "hard link to outside": lambda: [(link("a", "../evil", tarfile.LNKTYPE), b"")],
}


@pytest.mark.parametrize("name", ESCAPES)
def test_nothing_is_written_or_leads_outside(tmp_path: Path, name: str) -> None:
    archive = tar(tmp_path / "a.tar", *ESCAPES[name]())
    (tmp_path / "deep").mkdir()
    with pytest.raises(ArchiveError, match="outside"):
        unpack(archive, tmp_path / "deep/out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_zip_that_escapes_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("../evil", "x")
    with pytest.raises(ArchiveError, match=r"'../evil' would be written outside"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([(special("null", tarfile.CHRTYPE), b"")], "'null' is neither file, directory nor link"),
        ([(special("pipe", tarfile.FIFOTYPE), b"")], "'pipe' is neither"),
        ([(file("a"), b"1"), (file("a"), b"2")], "'a' twice"),
        ([(link("a", "b"), b""), (file("a"), b"2")], "'a' twice"),
        ([(file("a"), b"1"), (file("a/b"), b"2")], "a file and a directory of one name"),
        ([(link("a", "gone", tarfile.LNKTYPE), b"")], "to 'gone', which it does not hold"),
    ],
)
def test_what_no_toolchain_holds_is_refused(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], reason: str
) -> None:
    with pytest.raises(ArchiveError, match=reason):
        unpack(tar(tmp_path / "a.tar", *members), tmp_path / "out")


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
def test_damaged_archive_is_told_in_one_line(tmp_path: Path, compression: str) -> None:
    archive = tar(tmp_path / "a.tar", (file("a"), os.urandom(50_000)), (file("b"), b"x"), mode=f"w:{compression}")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArchiveError, match="damaged") as caught:
        unpack(archive, tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"<html>404</html>", "neither a tar nor a zip"), (b"", "neither"), (b"\x28\xb5\x2f\xfd" + bytes(9), "zstd")],
)
def test_what_is_no_archive_is_told(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ArchiveError, match=reason):
        unpack(tmp_path / "a", tmp_path / "out")
