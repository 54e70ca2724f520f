"""Where the agent finds esptool, and which it takes."""

import os
from pathlib import Path

import pytest

from fleetflash.agent.tools import environment
from fleetflash.agent.tools.environment import ToolError


def virtualenv(path: Path, version: str) -> Path:
    (path / "bin").mkdir(parents=True)
    (path / "bin/python").symlink_to("/usr/bin/python3")
    (path / f"lib/python3.11/site-packages/esptool-{version}.dist-info").mkdir(parents=True)
    path.chmod(0o755)
    (path / "bin").chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_own", lambda: None)


@pytest.mark.parametrize("version", ["5.6.0", "5.6", "5.12.1"])
def test_a_virtualenv_with_a_known_version_is_taken(tmp_path: Path, version: str) -> None:
    found = environment.find(virtualenv(tmp_path / "tools", version))
    assert (found.python, found.version) == (str(tmp_path / "tools/bin/python"), version)


@pytest.mark.parametrize("version", ["4.8.1", "5.5.9", "6.0.0", "10.1"])
def test_another_version_is_refused_with_what_is_needed(tmp_path: Path, version: str) -> None:
    with pytest.raises(ToolError, match=rf"has esptool {version}, needed is esptool>=5\.6,<6"):
        environment.find(virtualenv(tmp_path / "tools", version))


def test_what_is_not_there_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"no esptool in .*; install it as root: python3 -m venv"):
        environment.find(tmp_path / "tools")
    (tmp_path / "tools/bin").mkdir(parents=True)
    (tmp_path / "tools/bin/python").symlink_to("/usr/bin/python3")
    with pytest.raises(ToolError, match="no esptool"):
        environment.find(tmp_path / "tools")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is careful what it runs")
@pytest.mark.parametrize(("part", "mode", "owner"), [("", 0o777, 0), ("bin", 0o775, 0), ("", 0o755, 1000)])
def test_root_runs_nothing_that_others_may_change(tmp_path: Path, part: str, mode: int, owner: int) -> None:
    tools = virtualenv(tmp_path / "tools", "5.6.0")
    (tools / part).chmod(mode)
    os.chown(tools / part, owner, 0)
    with pytest.raises(ToolError, match="can be changed by others than root"):
        environment.find(tools)
