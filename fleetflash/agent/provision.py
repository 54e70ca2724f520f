"""The privileged conversation about what Klipper runs from: its source tree and its virtualenvs.

Messages, controller → agent, one a session; what belongs to a user is done as that user, an empty ``user`` is root::

    {"type": "look", "user": ..., "trees": {path: ref}, "environments": {path: requirements}, "services": [...],
     "expected": [expectations, see ``fleetflash.agent.expected``]}
    {"type": "checkout", "user": ..., "path": ..., "ref": ..., "repository": ..., "discard": bool, "size": bytes,
     "services": [...]}                    followed by ``size`` bytes in DATA frames: a bundle; with 0 the host fetches
    {"type": "environment", "user": ..., "path": ..., "requirements": ..., "size": bytes, "services": [...]}
                                           followed by ``size`` bytes: a tar of wheels; with 0 pip asks its index
    {"type": "helper", "user": ..., "path": of the source tree, "environment": path, "services": []}
    {"type": "sweep", "user": ..., "trees": [paths], "environments": [paths], "remove": bool}

Paths are absolute, or below the user's home. ``services`` run from what is changed. And agent → controller::

    {"type": "found", "home": ..., "trees": {path: {...}}, "environments": {path: flaw}, "restart": [services],
     "helpers": {path of a tree: flaw of klippy's C helper}, "held": [true or false for each expectation]}
    {"type": "done", "detail": what was kept of what lay there}        {"type": "refused", "message": ...}
    {"type": "swept", "found": [a line for each thing that a change which died has left]}; none while a change is made
"""

import fcntl
import os
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, Optional

from fleetflash.agent import as_user, expected, pending_restart, provision_leftovers, source_tree, virtualenv, wire
from fleetflash.agent.account import Account
from fleetflash.agent.chelper import ABSENT, CURRENT, SOURCES, CHelper, HelperError
from fleetflash.agent.git import GitError

#: Where an upload lies until it has been used.
SPOOL = "/var/tmp"
#: The child's word that it has touched nothing.
UNTOUCHED = 3

Message = Dict[str, Any]

_TOLD = (
    source_tree.TreeError,
    GitError,
    virtualenv.EnvironmentBuildError,
    HelperError,
    OSError,
    tarfile.TarError,
)


def main(stdin: BinaryIO, stdout: BinaryIO) -> int:
    """Hold the conversation; returns the process's exit code."""
    try:
        frame = wire.read_frame(stdin)
        if frame is None or frame[0] != wire.JSON:
            raise wire.WireError("expected a message, the controller sent none")
        message = wire.decode_json(frame[1])
        user = str(message.get("user") or "root")
        if message["type"] == "sweep":
            return _sweep(message, user, stdout)
        home = as_user.home(user)
        with _upload(stdin, int(message.get("size", 0))) as upload, _turn(message["type"] == "look"):
            # As root: not all of it may be read by the user.
            message["held"] = expected.held(message.get("expected", []))
            fresh = [] if message["type"] == "look" else pending_restart.mark(message["services"])
            code = as_user.run_as(user, lambda: _answer(message, home, upload, stdout))
            if code == UNTOUCHED:
                pending_restart.forget(fresh)
        return min(code, 1)
    except (wire.WireError, as_user.NoUserError, OSError, KeyError, ValueError) as error:
        _send(stdout, {"type": "refused", "message": str(error)})
        return 1


def _answer(message: Message, home: Path, upload: Optional[Path], stdout: BinaryIO) -> int:
    try:
        _send(stdout, WORK[message["type"]](message, home, upload))
        return 0
    except _TOLD as error:
        _send(stdout, {"type": "refused", "message": str(error)})
        return UNTOUCHED if isinstance(error, source_tree.TreeError) else 1


def _sweep(message: Message, user: str, stdout: BinaryIO) -> int:
    with _turn_if_free() as free:
        if not free:
            _send(stdout, {"type": "swept", "found": []})
            return 0
        # Uploads are root's, and what belongs to a user is touched as that user.
        uploads = provision_leftovers.sweep([], [], [Path(SPOOL)], message["remove"])
        try:
            home = as_user.home(user)
        except as_user.NoUserError:
            _send(stdout, {"type": "swept", "found": uploads})
            return 0

        def work() -> int:
            trees = [home / path for path in message["trees"]]
            environments = [home / path for path in message["environments"]]
            found = provision_leftovers.sweep(trees, environments, [], message["remove"])
            _send(stdout, {"type": "swept", "found": [*uploads, *found]})
            return 0

        return as_user.run_as(user, work)


def _look(message: Message, home: Path, upload: Optional[Path]) -> Message:
    trees = {}
    for path, ref in message["trees"].items():
        try:
            tree = source_tree.look(home / path, ref)
            trees[path] = {**asdict(tree), "is_current": tree.is_current, "error": ""}
        except (GitError, OSError) as error:
            trees[path] = {"kind": "unknown", "is_current": False, "error": str(error)}
    flaws = {path: virtualenv.flaw(home / path, text) for path, text in message["environments"].items()}
    helpers = {path: _helper_flaw(home / path) for path in message["trees"]}
    waiting = [service for service in message["services"] if pending_restart.marked(service)]
    found = {"home": str(home), "trees": trees, "environments": flaws, "helpers": helpers}
    return {"type": "found", "restart": waiting, "held": message["held"], **found}


def _checkout(message: Message, home: Path, upload: Optional[Path]) -> Message:
    path, discard = home / message["path"], bool(message["discard"])
    kept = source_tree.move(path, message["ref"], message["repository"], upload, discard)
    return {"type": "done", "detail": kept}


def _environment(message: Message, home: Path, upload: Optional[Path]) -> Message:
    path, requirements = home / message["path"], str(message["requirements"])
    if not virtualenv.flaw(path, requirements):
        return {"type": "done", "detail": ""}
    if upload is None:
        return {"type": "done", "detail": virtualenv.build(path, requirements, None)}
    with tempfile.TemporaryDirectory(dir=SPOOL, prefix=provision_leftovers.WHEELS) as wheels:
        with tarfile.open(str(upload)) as archive:
            for member in archive:
                if not member.isfile() or "/" in member.name:
                    raise OSError(f"the wheels' archive holds {member.name!r}")
                archive.extract(member, wheels)
        return {"type": "done", "detail": virtualenv.build(path, requirements, Path(wheels))}


def _helper_flaw(tree: Path) -> str:
    """Say what is wrong with klippy's C helper in a source tree; one without sources for it needs none."""
    if not (tree / SOURCES).is_dir():
        return ""
    state = CHelper(tree, tree, Account.own()).found()
    return {CURRENT: "", ABSENT: "is not built"}.get(state, "is older than its sources")


def _helper(message: Message, home: Path, upload: Optional[Path]) -> Message:
    tree, python = home / message["path"], home / message["environment"] / "bin/python"
    if _helper_flaw(tree):
        with tempfile.TemporaryDirectory(dir=SPOOL, prefix=provision_leftovers.HELPER) as aside:
            CHelper(tree, Path(aside), Account.own()).renew(str(python))
    return {"type": "done", "detail": ""}


WORK: Dict[str, Callable[[Message, Path, Optional[Path]], Message]] = {
    "look": _look,
    "checkout": _checkout,
    "environment": _environment,
    "helper": _helper,
}


@contextmanager
def _upload(stdin: BinaryIO, size: int) -> Iterator[Optional[Path]]:
    """Yield the file that the controller sends, once all of it is here."""
    if not size:
        yield None
        return
    with tempfile.NamedTemporaryFile(dir=SPOOL, prefix=provision_leftovers.UPLOAD) as file:
        arrived = 0
        while arrived < size:
            frame = wire.read_frame(stdin)
            if frame is None or frame[0] != wire.DATA:
                raise wire.WireError(f"the upload ended after {arrived} of {size} bytes; nothing was changed")
            file.write(frame[1])
            arrived += len(frame[1])
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        yield Path(file.name)


@contextmanager
def _turn(shared: bool) -> Iterator[None]:
    """One change at a time on a host; a controller that died may have left one that goes on."""
    pending_restart.RUN.mkdir(parents=True, exist_ok=True)
    with open(str(pending_restart.RUN / "lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@contextmanager
def _turn_if_free() -> Iterator[bool]:
    """Yield whether no change is made now; then none begins."""
    pending_restart.RUN.mkdir(parents=True, exist_ok=True)
    with open(str(pending_restart.RUN / "lock"), "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _send(stdout: BinaryIO, message: Message) -> None:
    stdout.write(wire.encode_json(message))
    stdout.flush()
