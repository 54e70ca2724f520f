"""The controller's end of the agent's ``compile``: a host makes a tree, and what it made comes back."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from fleetflash.build.errors import BuildHostError, CompileError
from fleetflash.build.make import clean_environment, telling
from fleetflash.link.session import AgentSession

#: A look takes a dpkg-query on a slow host, in seconds.
LOOK_SECONDS = 60.0
#: A toolchain has thousands of files, and a slow disk takes its time for each.
SWEEP_SECONDS = 600.0
#: What a build needs besides its toolchain.
PROGRAMS = ("make", "git")
#: More than any firmware with its debugging symbols, in bytes.
OUTPUT_LIMIT = 256 << 20

_OUTPUT = re.compile(r"klipper\.[a-z][a-z.]*")

Message = dict[str, Any]
Pack = Callable[[IO[bytes]], None]


@dataclass(frozen=True)
class HostFacts:
    """``machine`` as ``uname -m`` says it; ``packages``: name → (version, architecture); ``debian``: has it any."""

    machine: str
    zlib: str
    debian: bool
    packages: Mapping[str, tuple[str, str]]

    @classmethod
    def from_message(cls, message: Message) -> "HostFacts":
        packages = {str(name): (str(found[0]), str(found[1])) for name, found in message["packages"].items()}
        return cls(str(message["machine"]), str(message["zlib"]), bool(message["debian"]), packages)


@dataclass(frozen=True)
class ArchiveTools:
    """A toolchain that a host gets from here: its archive's sha256, where programs are in it, and what packs it."""

    sha256: str
    bin: str
    pack: Pack


def look(session: AgentSession, packages: list[str]) -> HostFacts:
    """Ask what a host would compile with; raises ``LinkError``."""
    session.send({"type": "look", "packages": packages})
    return HostFacts.from_message(_expect(session, session.receive(LOOK_SECONDS), "found"))


def sweep(session: AgentSession, directory: str, remove: bool) -> list[str]:
    """Have a host say, and remove if asked, what builders that died have left there.

    Raises ``BuildHostError`` and ``LinkError``.
    """
    session.send({"type": "sweep", "directory": directory, "remove": remove})
    return [str(line) for line in _expect(session, session.receive(SWEEP_SECONDS), "swept")["found"]]


class HostBuild:
    """One build; ``directory`` is where on the host, ``log`` is appended to, ``on_log`` hears what is said."""

    def __init__(self, session: AgentSession, directory: str, log: Path, on_log: Callable[[bytes], None]) -> None:
        self.session, self.directory, self.log, self.on_log = session, directory, log, on_log

    def run(
        self,
        packages: list[str],
        tools: ArchiveTools | None,
        check: Callable[[HostFacts], None],
        source: Pack,
        out: Path,
    ) -> None:
        """Have the host make ``source``; writes what it made to ``out``.

        + packages: what ``check`` wants to know of
        + check: is told what the host compiles with just before it does, and raises when that won't do

        Raises ``CompileError``, ``BuildHostError`` and ``LinkError``.
        """
        session = self.session
        session.send(
            {
                "type": "compile",
                "directory": self.directory,
                "packages": packages,
                "programs": list(PROGRAMS),
                "environment": clean_environment(),
                "toolchain": {"sha256": tools.sha256, "bin": tools.bin} if tools else None,
            }
        )
        message = session.receive(None)
        if tools and isinstance(message, dict) and message["type"] == "need":
            self._send(tools.pack)
            message = session.receive(None)
        check(HostFacts.from_message(_expect(session, message, "ready")))
        self._send(source)
        self._follow()
        out.mkdir(exist_ok=True)
        self._take(out)

    def _send(self, pack: Pack) -> None:
        outgoing = _Outgoing(self.session)
        pack(cast(IO[bytes], outgoing))
        self.session.send({"type": "end", "sha256": outgoing.digest.hexdigest()})

    def _follow(self) -> None:
        """Keep what make says until it ends; raises ``CompileError``."""
        with open(self.log, "ab") as log:
            log.write(f"$ make (on {self.session.host})\n".encode())
            start = log.tell()
            while isinstance(message := self.session.receive(None), bytes):
                log.write(message)
                log.flush()
                self.on_log(message)
        if _expect(self.session, message, "made")["code"]:
            said = self.log.read_bytes()[start:].decode(errors="replace")
            raise CompileError(f"{self.session.host}: make failed: {telling(said)}; all of it: {self.log}")

    def _take(self, out: Path) -> None:
        """Write the files that come; their names and sizes are looked at, since the host may say anything."""
        total = 0
        while (message := self.session.receive(None)) != {"type": "done"}:
            described = _expect(self.session, message, "file")
            name, size = str(described["name"]), int(described["size"])
            total += size
            if not _OUTPUT.fullmatch(name) or size < 0 or total > OUTPUT_LIMIT:
                raise BuildHostError(f"{self.session.host}: made {name!r:.80} of {size} bytes, no output of a build")
            content = b""
            while len(content) < size:
                piece = self.session.receive(None)
                if not isinstance(piece, bytes):
                    raise BuildHostError(f"{self.session.host}: {name} ended after {len(content)} of {size} bytes")
                content += piece
            if hashlib.sha256(content).hexdigest() != described["sha256"]:
                raise BuildHostError(f"{self.session.host}: {name} did not arrive as it was sent (sha256); run again")
            (out / name).write_bytes(content)


def _expect(session: AgentSession, message: Message | bytes, kind: str) -> Message:
    if isinstance(message, dict) and message["type"] == kind:
        return message
    if isinstance(message, dict) and message["type"] == "refused":
        raise BuildHostError(f"{session.host}: {message['message']}")
    raise BuildHostError(f"{session.host}: expected {kind!r} of its agent, found {message!r:.80}; update both sides")


class _Outgoing:
    """A file whose bytes go to the host."""

    def __init__(self, session: AgentSession) -> None:
        self.session, self.digest = session, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.session.send_data(data)
        return len(data)

    def flush(self) -> None:
        pass
