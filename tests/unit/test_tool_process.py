"""A flash tool's process does not depend on the disk of the host."""

import subprocess
import sys
import tempfile

import pytest

from fleetflash.agent.tools.process import ToolProcess


def test_a_tool_is_started_and_its_last_words_kept_where_no_file_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", full)
    tool = ToolProcess([sys.executable, "-c", "import sys; sys.exit('no such chip')"], "/dev/x")
    tool._process.wait(10)
    assert tool._last_words() == "no such chip"
    tool.close()


def test_talk_that_no_disk_takes_does_not_end_the_tool() -> None:
    pytest.importorskip("esptool")
    program = "from fleetflash.agent.tools.esptool_worker import Reporter; Reporter().print('Wrote'); print('alive')"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full, timeout=60)
    assert done.stdout == b"alive\n"
