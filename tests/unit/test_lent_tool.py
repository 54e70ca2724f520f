"""The controller's part in a flash tool that a host lacks."""

import importlib.metadata
import queue
import sys
from pathlib import Path
from typing import Any

import pytest

from fleetflash.link import tool


class Session:
    """A host that calls once and waits for the result."""

    def __init__(self) -> None:
        self.said: queue.Queue[Any] = queue.Queue()
        self.told: queue.Queue[Any] = queue.Queue()
        self.told.put({"type": "call", "operation": "connect", "bytes": 0})

    def send(self, message: Any) -> None:
        self.said.put(message)
        self.told.put({"type": "end"})

    def send_data(self, data: bytes) -> None: ...

    def receive(self, timeout: float | None) -> Any:
        return self.told.get(timeout=5.0)


def test_a_tool_that_dies_with_a_call_is_told_to_the_host_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nsleep 0.3\nexit 1\n")
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    session = Session()
    assert tool.serve(session, "host:/dev/x", lambda message: None) == {"type": "end"}
    result = session.said.get_nowait()
    assert (result["ok"], result["kind"]) == (False, "tool") and "esptool has ended" in result["error"]
    assert session.said.empty()


@pytest.mark.parametrize(("version", "known"), [("5.6.0", True), ("4.8.1", False), ("6.0.0", False)])
def test_only_versions_that_are_known_are_offered_to_hosts(
    version: str, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert (tool.why_no_esptool() == "") is known
