"""A toolchain is fetched once, is the one that was pinned, and is never seen half."""

import hashlib
import http.server
import io
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleetflash.build import debian
from fleetflash.build.errors import ArchiveError, BoardTypeError, DownloadError, ToolchainError
from fleetflash.build.toolchain import Toolchain, read_toolchains
from fleetflash.build.toolchain_cache import ToolchainCache


def packed(version: str = "1", program: str = "bin/gcc") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(program)
        content = f"#!/bin/sh\necho {version}\n".encode()
        info.size, info.mode = len(content), 0o755
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def toolchain(
    *urls: str, content: bytes, version: str = "1", name: str = "gcc", digest: str | None = None
) -> Toolchain:
    archive = {"urls": urls, "sha256": digest or sha256(content)}
    fields = {"version": version, "archives": {platform.machine(): archive}, "programs": ["gcc"]}
    return read_toolchains({name: fields})[name]


class Server:
    """An HTTP server on this computer, which can cut its answers short or hold back their second half."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.cut_short = False
        self.hold = threading.Event()
        self.hold.set()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.requests.append(self.path)
                content = owner.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                half = len(content) // 2
                self.wfile.write(content[:half])
                self.wfile.flush()
                owner.hold.wait(30)
                if not owner.cut_short:
                    self.wfile.write(content[half:])

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def cache(tmp_path: Path) -> ToolchainCache:
    return ToolchainCache(tmp_path / "cache")


def left(cache: ToolchainCache) -> list[str]:
    """What lies in the cache beside its locks."""
    return sorted(path.name for path in cache.directory.iterdir() if not path.name.endswith(".lock"))


def test_it_is_fetched_once_and_runs(server: Server, cache: ToolchainCache) -> None:
    content = server.files["/gcc.tar.gz"] = packed()
    wanted = toolchain(f"{server.url}/gcc.tar.gz", content=content)
    for _ in range(2):
        with cache.use(wanted) as tools:
            assert tools.bin is not None
            assert subprocess.check_output([tools.bin / "gcc"], text=True) == "1\n"
    assert server.requests == ["/gcc.tar.gz"]
    assert left(cache) == [sha256(content)]
    facts = json.loads((cache.directory / sha256(content) / "toolchain.json").read_text())
    assert facts == {"name": "gcc", "version": "1", "sha256": sha256(content)}


def test_versions_lie_side_by_side_and_have_their_own_identity(server: Server, cache: ToolchainCache) -> None:
    found = []
    for version in ("1", "2"):
        content = server.files[f"/{version}"] = packed(version)
        with cache.use(toolchain(f"{server.url}/{version}", content=content, version=version)) as tools:
            found.append(tools)
    assert found[0].id != found[1].id
    assert [entry.version for entry in cache.entries()] == ["2", "1"]
    assert all(tools.bin is not None and (tools.bin / "gcc").exists() for tools in found)


def test_many_builders_at_once_fetch_it_once(server: Server, cache: ToolchainCache) -> None:
    content = server.files["/gcc"] = packed()
    wanted = toolchain(f"{server.url}/gcc", content=content)
    server.hold.clear()

    def use(_: int) -> str:
        with cache.use(wanted) as tools:
            assert tools.bin is not None
            return subprocess.check_output([tools.bin / "gcc"], text=True)

    with ThreadPoolExecutor(12) as pool:
        results = pool.map(use, range(12))
        threading.Timer(0.3, server.hold.set).start()
        assert list(results) == ["1\n"] * 12
    assert server.requests == ["/gcc"]


def test_wrong_hash_names_both_and_leaves_nothing(server: Server, cache: ToolchainCache) -> None:
    content = server.files["/gcc"] = packed()
    wanted = "0" * 64
    with (
        pytest.raises(DownloadError) as caught,
        cache.use(toolchain(f"{server.url}/gcc?token=secret", f"{server.url}/gcc", content=content, digest=wanted)),
    ):
        pass
    assert f"toolchain gcc 1: {server.url}/gcc: 404" in str(caught.value) and "secret" not in str(caught.value)
    assert f"has sha256 {sha256(content)}, expected {wanted}" in str(caught.value)
    assert left(cache) == []


def test_next_url_is_tried_when_one_fails(server: Server, cache: ToolchainCache, tmp_path: Path) -> None:
    content = packed()
    mirror = tmp_path / "mirror.tar.gz"
    mirror.write_bytes(content)
    server.files["/wrong"] = b"something else"
    urls = (f"{server.url}/gone", f"{server.url}/wrong", "http://127.0.0.1:1/refused", mirror.as_uri())
    with cache.use(toolchain(*urls, content=content)) as tools:
        assert tools.bin is not None and (tools.bin / "gcc").exists()
    assert server.requests == ["/gone", "/wrong"]


def test_connection_that_breaks_is_told_and_the_next_run_is_clean(server: Server, cache: ToolchainCache) -> None:
    content = server.files["/gcc"] = packed()
    wanted = toolchain(f"{server.url}/gcc", content=content)
    server.cut_short = True
    with (
        pytest.raises(DownloadError, match=f"ended after {len(content) // 2} of {len(content)} bytes"),
        cache.use(wanted),
    ):
        pass
    assert left(cache) == []
    server.cut_short = False
    with cache.use(wanted):
        assert left(cache) == [sha256(content)]


def test_archive_that_escapes_or_lacks_its_program_is_never_published(server: Server, cache: ToolchainCache) -> None:
    for program, error, reason in (
        (
            "../evil",
            ArchiveError,
            "toolchain gcc 1: the archive's member '../evil' would be written outside; pin another",
        ),
        ("bin/cc", ToolchainError, "its archive has no program bin/gcc; correct bin or programs"),
        ("usr/gcc", ToolchainError, "its archive has no program bin/gcc"),
    ):
        content = server.files["/gcc"] = packed(program=program)
        with pytest.raises(error, match=reason), cache.use(toolchain(f"{server.url}/gcc", content=content)):
            pass
        assert left(cache) == []
    assert sorted(path.name for path in cache.directory.parent.iterdir()) == ["cache"]


def fetch_and_stall(directory: Path, wanted: Toolchain) -> None:
    with ToolchainCache(directory).use(wanted):
        pass


def test_builder_that_was_killed_leaves_nothing_that_matters(server: Server, cache: ToolchainCache) -> None:
    content = server.files["/gcc"] = packed()
    wanted = toolchain(f"{server.url}/gcc", content=content)
    server.hold.clear()
    child = multiprocessing.get_context("spawn").Process(target=fetch_and_stall, args=(cache.directory, wanted))
    child.start()
    unfinished = f".{sha256(content)}.download"
    deadline = time.monotonic() + 30
    while not cache.directory.exists() or unfinished not in left(cache):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert left(cache) == [unfinished] and cache.entries() == []
    server.hold.set()
    with cache.use(wanted):
        assert left(cache) == [sha256(content)]


def test_collect_removes_old_versions_and_leftovers_but_nothing_in_use(server: Server, cache: ToolchainCache) -> None:
    wanted = []
    for number in range(4):
        content = server.files[f"/{number}"] = packed(str(number))
        wanted.append(toolchain(f"{server.url}/{number}", content=content, version=str(number)))
        with cache.use(wanted[-1]):
            pass
        os.utime(cache.directory / sha256(content) / "toolchain.json", (number, number))
    (cache.directory / f".{'a' * 64}.unpacking").mkdir()
    (cache.directory / f".{'b' * 64}.download").write_bytes(b"half")
    ages = cache.directory / sha256(server.files["/0"]) / "toolchain.json"
    with cache.use(wanted[0]):
        os.utime(ages, (0, 0))
        assert [entry.version for entry in cache.collect(keep=2)] == ["1"]
        assert [entry.version for entry in cache.entries()] == ["3", "2", "0"]
    assert len(left(cache)) == 3
    assert [entry.version for entry in cache.collect(keep=2)] == ["0"]
    with cache.use(wanted[0]):
        assert len(server.requests) == 5


def test_full_disk_is_told_and_leaves_nothing(
    server: Server, cache: ToolchainCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = server.files["/gcc"] = packed()
    wanted = toolchain(f"{server.url}/gcc", content=content)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("fleetflash.build.download.os.fsync", full)
        with pytest.raises(ToolchainError, match=r"gcc 1: .*No space left on device; free space"), cache.use(wanted):
            pass
    assert left(cache) == []
    with cache.use(wanted) as tools:
        assert tools.bin is not None


def test_architecture_without_an_archive_is_told(cache: ToolchainCache) -> None:
    wanted = read_toolchains(
        {"gcc": {"version": "1", "archives": {"pdp11": {"urls": "https://example.org/x", "sha256": "0" * 64}}}}
    )["gcc"]
    with (
        pytest.raises(ToolchainError, match=f"gcc 1: no archive for {platform.machine()}, there is pdp11"),
        cache.use(wanted),
    ):
        pass


def test_debian_packages_are_checked_and_installing_them_is_said(cache: ToolchainCache) -> None:
    there = debian.installed(["python3", "no-such-package"])
    assert list(there) == ["python3"]
    version = there["python3"][0]
    good = Toolchain(name="python", version="3", debian={"python3": f"{version[:3]}*"})
    with cache.use(good) as tools:
        assert tools.bin is None and len(tools.id) == 64
    bad = Toolchain(name="python", version="3", debian={"python3": "9.9*", "no-such-package": "*"})
    with pytest.raises(ToolchainError) as caught, cache.use(bad):
        pass
    assert str(caught.value) == (
        "toolchain python 3: no-such-package is not installed, expected *; "
        f"python3 is {version}, expected 9.9*: apt-get install no-such-package 'python3=9.9*'"
    )


ARCHIVE = {"urls": ["https://example.org/x.tar.xz"], "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": "1"}, "toolchains.gcc: expected either debian"),
        ({"debian": {"gcc": "1"}}, "toolchains.gcc: version is missing"),
        ({"version": "1", "debian": {"a": "1"}, "archives": {"x86_64": ARCHIVE}}, "expected either debian"),
        ({"version": 1, "debian": {"a": "1"}}, "version: Input should be a valid string, found 1"),
        ({"version": "1", "debian": {"a": "1"}, "programs": ["gcc"]}, "bin and programs are for archives"),
        ({"version": "1", "debian": {"a": "1"}, "pin": 1}, "pin is no field of a toolchain"),
        ({"version": "1", "archives": {"x86_64": {**ARCHIVE, "sha256": "abc"}}}, "archives.x86_64.sha256"),
        (
            {"version": "1", "archives": {"x86_64": {**ARCHIVE, "urls": ["ftp://x/y"]}}},
            "expected a URL of https, http, file",
        ),
        ({"version": "1", "archives": {"x86_64": {**ARCHIVE, "urls": []}}}, "archives.x86_64.urls"),
        ({"version": "1", "archives": {"x86_64": ARCHIVE}, "bin": "../bin"}, "bin: expected a directory inside"),
        ("gcc", "toolchains.gcc: expected a dictionary"),
    ],
)
def test_mistakes_in_a_description_name_the_field(fields: object, reason: str) -> None:
    with pytest.raises(BoardTypeError) as caught:
        read_toolchains({"gcc": fields})
    assert reason in str(caught.value) and "\n" not in str(caught.value)
