"""The agent's end of the conversation about what Klipper runs from, held in this process."""

import getpass
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent import pending_restart, provision, wire


class Talk:
    """``spool``: where uploads and half-made things lie."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.spool = directory, directory / "spool"
        self.spool.mkdir(parents=True)
        monkeypatch.setattr(pending_restart, "RUN", directory / "run")
        monkeypatch.setattr(provision, "SPOOL", str(self.spool))

    def ask(self, kind: str, **request: Any) -> dict[str, Any]:
        """Send one message and return the answer; a process of its own works as the user."""
        message = {"type": kind, "user": getpass.getuser(), **request}
        with open(self.directory / "asked", "w+b") as stdin, open(self.directory / "answer", "w+b") as stdout:
            stdin.write(wire.encode_json(message))
            stdin.seek(0)
            code = provision.main(stdin, stdout)
            stdout.seek(0)
            frame = wire.read_frame(stdout)
        assert frame is not None
        answer = wire.decode_json(frame[1])
        assert (code == 0) == (answer["type"] != "refused"), answer
        return answer
