"""A builder takes in only what was sent whole, keeps no half of it, and says in one line what it refuses."""

import gzip
import hashlib
import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent import build_space, compile, wire

SHA256 = "a" * 64


def tar(name: str = "bin/tool", size: int = 100_000) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o755
        archive.addfile(info, io.BytesIO(random.Random(1).randbytes(size)))
    return packed.getvalue()


def answers(tmp_path: Path, frames: list[bytes], **request: Any) -> tuple[int, list[dict[str, Any]]]:
    """Hold a conversation in which the controller has said everything beforehand."""
    message = {
        "type": "compile",
        "directory": str(tmp_path / "there"),
        "packages": [],
        "programs": ["sh"],
        "environment": {"PATH": "/usr/bin:/bin"},
        "toolchain": {"sha256": SHA256, "bin": "bin"},
        **request,
    }
    out = io.BytesIO()
    code = compile.main(io.BytesIO(wire.encode_json(message) + b"".join(frames)), out)
    out.seek(0)
    found = []
    while (frame := wire.read_frame(out)) is not None:
        found.append(wire.decode_json(frame[1]) if frame[0] == wire.JSON else {"type": "log"})
    return code, found


def sent(data: bytes, sha256: str | None = None) -> list[bytes]:
    pieces = [wire.encode(wire.DATA, data[start : start + 1000]) for start in range(0, len(data), 1000)]
    return [*pieces, wire.encode_json({"type": "end", "sha256": sha256 or hashlib.sha256(data).hexdigest()})]


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (lambda data: sent(data, "0" * 64), "what arrived is not what was sent (sha256); run again"),
        (lambda data: sent(data)[:3], "the connection ended before everything was here; nothing was built"),
        (lambda data: sent(data[: len(data) // 2]), "what the controller sent is damaged ("),
        (lambda data: sent(gzip.compress(b"no tar at all")), "what the controller sent is damaged ("),
    ],
)
def test_toolchain_that_did_not_arrive_whole_is_never_seen(
    tmp_path: Path, frames: Callable[[bytes], list[bytes]], reason: str
) -> None:
    code, found = answers(tmp_path, frames(tar()))
    assert code == 1 and [message["type"] for message in found] == ["need", "refused"]
    assert found[1]["message"].startswith(reason) and "\n" not in found[1]["message"]
    assert [path.name for path in (tmp_path / "there/toolchains").iterdir()] == [f".{SHA256}.lock"]
    _, found = answers(tmp_path, sent(tar()))
    assert [message["type"] for message in found[:2]] == ["need", "ready"]
    assert (tmp_path / "there/toolchains" / SHA256 / "tree/bin/tool").stat().st_size == 100_000
    assert answers(tmp_path, [])[1][0]["type"] == "ready"


def test_programs_are_looked_for_before_anything_is_sent(tmp_path: Path) -> None:
    code, found = answers(tmp_path, [], programs=["sh", "no-make"])
    assert (code, found) == (
        1,
        [{"type": "refused", "message": "no-make not installed: apt-get install no-make"}],
    )
    assert not (tmp_path / "there").exists()


def test_source_that_did_not_arrive_leaves_nothing(tmp_path: Path) -> None:
    _, found = answers(tmp_path, sent(tar("Makefile"))[:5], toolchain=None)
    assert [message["type"] for message in found] == ["ready", "refused"]
    assert [path.name for path in (tmp_path / "there/work").iterdir()] == [".lock"]


def test_least_used_toolchains_go_and_those_in_use_stay(tmp_path: Path) -> None:
    def fill(path: Path) -> None:
        path.mkdir()

    def there() -> list[str]:
        return sorted(path.name for path in (tmp_path / "toolchains").iterdir() if path.is_dir())

    with build_space.toolchain(tmp_path, "0" * 64, fill):
        for digit in "1234":
            with build_space.toolchain(tmp_path, digit * 64, fill):
                pass
        assert "0" * 64 in there() and "4" * 64 in there()
    with build_space.toolchain(tmp_path, "5" * 64, fill):
        assert len(there()) <= build_space.KEPT and "5" * 64 in there()
