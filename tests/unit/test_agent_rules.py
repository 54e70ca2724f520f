"""The agent needs nothing on a host but Python >= 3.9."""

import ast
import io
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from fleetflash.link import agent_archive

AGENT = Path(agent_archive.__file__).parents[1] / "agent"


def foreign_imports(source: str, name: str) -> Iterator[str]:
    """Yield what a module imports that is neither the standard library's nor the agent's."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            modules = [f"relative to {name}"] if node.level else [node.module or ""]
            if modules == ["fleetflash"]:
                modules = [f"fleetflash.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        for module in modules:
            own = module == "fleetflash.agent" or module.startswith("fleetflash.agent.")
            if not own and module.split(".")[0] not in sys.stdlib_module_names:
                yield f"{name}: {module}"


def test_the_archive_imports_nothing_but_itself_and_the_standard_library() -> None:
    data = agent_archive.archive().data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        found = [text for name in names for text in foreign_imports(archive.read(name).decode(), name)]
    # It runs in the tool virtualenv, in a process of its own.
    worker = "fleetflash/agent/tools/esptool_worker.py"
    assert [text for text in found if not text.startswith(worker)] == []
    assert {text.partition(": ")[2].split(".")[0] for text in found} == {"esptool", "esp_pylib", "serial"}
    assert "__main__.py" in names and "fleetflash/agent/serve.py" in names
    assert all(
        name in ("__main__.py", "fleetflash/__init__.py") or name.startswith("fleetflash/agent/") for name in names
    )


def test_the_check_catches_what_is_planted() -> None:
    planted = "import os, serial\nfrom fleetflash import boards\nfrom fleetflash.agent import wire\nfrom . import x\n"
    assert list(foreign_imports(planted, "planted.py")) == [
        "planted.py: serial",
        "planted.py: fleetflash.boards",
        "planted.py: relative to planted.py",
    ]


def vermin(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("vermin"), "-t=3.9-", "--no-tips", "--violations", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_agent_runs_on_python_3_9() -> None:
    result = vermin(AGENT)
    assert result.returncode == 0, result.stdout


def test_the_version_check_catches_what_is_planted(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("match 1:\n    case 1:\n        pass\n")
    result = vermin(planted)
    assert result.returncode != 0 and "3.10" in result.stdout
