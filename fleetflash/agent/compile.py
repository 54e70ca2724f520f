"""The unprivileged conversation about a build: what this host would compile with, and compiling here.

Messages, controller → agent, one a session::

    {"type": "look", "packages": [...]}
    {"type": "compile", "directory": ..., "packages": [...], "programs": [...], "environment": {...},
     "toolchain": {"sha256": ..., "bin": ...} or null}
    {"type": "sweep", "directory": ..., "remove": bool}

Paths begin with ``~`` or are absolute. And agent → controller::

    {"type": "found", ...what build_facts.look says}
    {"type": "swept", "found": [a line for each thing that a builder that died has left]}
    {"type": "need"}         the toolchain is not here: its tar is wanted
    {"type": "ready", ...what build_facts.look says}       the tar of the source, with its .config, is wanted
    DATA                     what make says
    {"type": "made", "code": make's exit code}
    {"type": "file", "name": ..., "size": bytes, "sha256": ...}     followed by its bytes, for each out/klipper.*
    {"type": "done"}                                       {"type": "refused", "message": ...}

A tar (gzip) is sent in DATA frames, with ``{"type": "end", "sha256": ...}`` of all of it after the last. When the
connection is lost, what runs is ended, and its directory removed.
"""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import tarfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Dict, Optional

from fleetflash.agent import build_facts, build_space, wire

Message = Dict[str, Any]

_CHUNK = 64 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BuildRefusedError(Exception):
    """This host can't build; the message says why."""


def main(stdin: BinaryIO, stdout: BinaryIO) -> int:
    """Hold the conversation; returns the process's exit code."""
    frame = wire.read_frame(stdin)
    if frame is None or frame[0] != wire.JSON:
        raise wire.WireError("expected a message, the controller sent none")
    message = wire.decode_json(frame[1])
    if message["type"] == "look":
        _send(stdout, {"type": "found", **build_facts.look(message["packages"])})
        return 0
    try:
        if message["type"] == "sweep":
            left = build_space.sweep(Path(message["directory"]).expanduser(), bool(message["remove"]))
            _send(stdout, {"type": "swept", "found": left})
            return 0
        _compile(message, stdin, stdout)
        return 0
    except (BuildRefusedError, OSError, tarfile.TarError) as error:
        try:
            _send(stdout, {"type": "refused", "message": _reason(error, message["directory"])})
        except OSError:
            return 1  # nobody is there any more
        # What the controller still sends must not hold it up.
        while stdin.read(_CHUNK):
            pass
        return 1


def _reason(error: Exception, directory: str) -> str:
    if isinstance(error, OSError) and error.strerror:
        hint = "free space there" if error.errno in _FULL else "look at it there"
        return f"{error.filename or directory}: {error.strerror}; {hint}, or name another build_directory"
    return str(error)


def _compile(message: Message, stdin: BinaryIO, stdout: BinaryIO) -> None:
    root = Path(message["directory"]).expanduser()
    environment: Dict[str, str] = dict(message["environment"])
    lacking = build_facts.missing(message["programs"], environment["PATH"])
    if lacking:
        raise BuildRefusedError(f"{', '.join(lacking)} not installed: apt-get install {' '.join(lacking)}")
    with ExitStack() as stack:
        pinned = message["toolchain"]
        if pinned:
            tools = stack.enter_context(
                build_space.toolchain(root, pinned["sha256"], lambda path: _fetch(path, stdin, stdout))
            )
            environment["PATH"] = f"{tools / pinned['bin']}:{environment['PATH']}"
        work, lock = stack.enter_context(build_space.workspace(root))
        _send(stdout, {"type": "ready", **build_facts.look(message["packages"])})
        tree = work / "klipper"
        _unpack(tree, stdin)
        environment["HOME"] = str(work)
        code = _make(tree, environment, lock, stdin, stdout)
        _send(stdout, {"type": "made", "code": code})
        if code == 0:
            _send_output(tree / "out", stdout)
            _send(stdout, {"type": "done"})


def _fetch(path: Path, stdin: BinaryIO, stdout: BinaryIO) -> None:
    _send(stdout, {"type": "need"})
    _unpack(path, stdin)


def _unpack(path: Path, stdin: BinaryIO) -> None:
    """Unpack what the controller sends; it has made the tar itself, so its members are not looked at again."""
    path.mkdir()
    arriving: Any = _Arriving(stdin)
    try:
        with tarfile.open(fileobj=arriving, mode="r|gz") as archive:
            archive.extractall(str(path))
    except tarfile.TarError as error:
        arriving.finish()
        raise BuildRefusedError(f"what the controller sent is damaged ({error}); run again") from None
    arriving.finish()


class _Arriving:
    """The bytes of the DATA frames up to the message ``end``, as a file that is read once."""

    def __init__(self, stdin: BinaryIO) -> None:
        self._stdin, self._rest, self._digest, self._ended = stdin, b"", hashlib.sha256(), False

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and not self._ended:
            frame = wire.read_frame(self._stdin)
            if frame is None:
                raise BuildRefusedError("the connection ended before everything was here; nothing was built")
            if frame[0] == wire.DATA:
                self._digest.update(frame[1])
                self._rest += frame[1]
                continue
            self._ended = True
            if wire.decode_json(frame[1]).get("sha256") != self._digest.hexdigest():
                raise BuildRefusedError("what arrived is not what was sent (sha256); run again")
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def finish(self) -> None:
        """Take in what is left, so that all of it has been checked."""
        while self.read(_CHUNK):
            pass


def _make(tree: Path, environment: Dict[str, str], lock: int, stdin: BinaryIO, stdout: BinaryIO) -> int:
    process = subprocess.Popen(
        ["make", f"-j{os.cpu_count() or 1}", f"PYTHON={sys.executable}"],
        cwd=str(tree),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # As long as anything of it runs, nobody takes its directory for a dead builder's.
        pass_fds=(lock,),
    )
    assert process.stdout is not None
    # Nothing more comes from the controller but its end.
    threading.Thread(target=_end_with, args=(stdin, process), daemon=True).start()
    try:
        while True:
            said: Optional[bytes] = os.read(process.stdout.fileno(), _CHUNK)
            if not said:
                return process.wait()
            stdout.write(wire.encode(wire.DATA, said))
            stdout.flush()
    finally:
        _kill(process)
        process.stdout.close()


def _end_with(stdin: BinaryIO, process: "subprocess.Popen[bytes]") -> None:
    while stdin.read(_CHUNK):
        pass
    _kill(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _send_output(out: Path, stdout: BinaryIO) -> None:
    for path in sorted(out.glob("klipper.*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            _send(stdout, {"type": "file", "name": path.name, "size": len(content), "sha256": digest})
            for start in range(0, len(content), _CHUNK):
                stdout.write(wire.encode(wire.DATA, content[start : start + _CHUNK]))
    stdout.flush()


def _send(stdout: BinaryIO, message: Message) -> None:
    stdout.write(wire.encode_json(message))
    stdout.flush()
