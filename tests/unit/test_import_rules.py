"""Who may import whom, as DESIGN.md says: downwards only, the agent and the lab apart."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: From the top down; a module may import from its own rank and from those below.
RANKS = (
    {"cli", "deploys"},
    {"roles"},
    {"operations", "facts"},
    {
        "plan",
        "link",
        "firmware",
        "build",
        "rollout",
        "report",
        "provision",
        "incident",
        "verification",
        "acceptance",
        "functional",
        "release",
    },
    {"boards", "host_state"},
)
#: The modules of the agent that the controller shares.
SHARED = tuple(
    f"fleetflash.agent.{name}" for name in ("schema", "retention", "wire", "port", "protocols", "tools", "acceptance")
)
#: The one module of the controller that opens ports of its own computer, as the agent does those of a host.
BENCH = "fleetflash.link.bench"
LAB_MAY_USE = {"boards", "firmware"}
#: Folders beside the package whose modules import each other by these names.
FOLDERS = ("deploys", "roles")


def room(module: str) -> str:
    """Return the room of a module: ``fleetflash.link.ssh`` is in ``link``, ``roles.builder`` in ``roles``."""
    parts = module.split(".")
    if parts[0] in FOLDERS:
        return parts[0]
    return parts[1] if parts[0] == "fleetflash" and len(parts) > 1 else ""


def violation(importer: str, imported: str) -> str | None:
    """Say which rule forbids ``importer`` to import ``imported``, if any does."""
    source, target = room(importer), room(imported)
    if not source or not target or source == target:
        return None
    if source == "agent":
        return "the agent imports nothing outside itself"
    if source == "lab":
        return None if target in LAB_MAY_USE else "the lab uses only boards and firmware"
    if target == "agent":
        allowed = (*SHARED, "fleetflash.agent.ports") if importer == BENCH else SHARED
        shared = any(imported == name or imported.startswith(f"{name}.") for name in allowed)
        names = ", ".join(name.rpartition(".")[2] for name in SHARED)
        return None if shared else f"the controller shares only {names} with the agent"
    if target == "lab":
        return None if source == "cli" else "only the command line uses the lab"
    ranks = {name: number for number, names in enumerate(RANKS) for name in names}
    if source in ranks and target in ranks and ranks[target] < ranks[source]:
        return "imports point downwards only"
    return None


def imports(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Yield the full name of everything that a module imports, wherever in it."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def violations(root: Path) -> list[str]:
    found = []
    for folder in ("fleetflash", *FOLDERS):
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            module = ".".join(parts[:-1] if is_package else parts)
            for imported in imports(path.read_text(), module, is_package):
                rule = violation(module, imported)
                if rule:
                    found.append(f"{module} imports {imported}: {rule}")
    return found


def test_no_import_breaks_the_rules() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("path", "source", "rule"),
    [
        ("fleetflash/boards.py", "from fleetflash import plan", "downwards"),
        ("fleetflash/link/ssh.py", "def f():\n    from fleetflash.operations import mcu", "downwards"),
        ("fleetflash/facts/snapshot.py", "import roles.builder", "downwards"),
        ("roles/builder/__init__.py", "from deploys import flash", "downwards"),
        ("fleetflash/build/builder.py", "from fleetflash.operations import firmware", "downwards"),
        ("fleetflash/build/builder.py", "from fleetflash.lab import image", "only the command line"),
        ("fleetflash/plan/board.py", "from fleetflash.agent.ports import SerialPort", "shares only"),
        ("fleetflash/plan/__init__.py", "from fleetflash.agent import transaction", "shares only"),
        ("fleetflash/plan/rollback.py", "from ..facts import snapshot", "downwards"),
        ("fleetflash/plan/__init__.py", "from fleetflash.facts.decision import decide", "downwards"),
        ("fleetflash/agent/ports.py", "from fleetflash.boards import Board", "nothing outside itself"),
        ("fleetflash/agent/ports.py", "from ..link import port", "nothing outside itself"),
        ("fleetflash/lab/bench.py", "from fleetflash.agent import wire", "only boards and firmware"),
        ("fleetflash/lab/boards/bmcu.py", "from fleetflash.plan import plan", "only boards and firmware"),
        ("fleetflash/facts/snapshot.py", "import fleetflash.lab.bench", "only the command line"),
    ],
)
def test_a_planted_violation_is_caught(tmp_path: Path, path: str, source: str, rule: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert [rule in text for text in violations(tmp_path)] == [True]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("deploys/flash.py", "from roles import klipper_host\nfrom fleetflash.operations import mcu"),
        ("fleetflash/facts/snapshot.py", "from fleetflash.plan import x\nfrom fleetflash.facts import y"),
        ("fleetflash/link/port.py", "from fleetflash.agent.port import Port\nfrom fleetflash.agent import wire"),
        ("fleetflash/lab/boards/bmcu.py", "from fleetflash.boards import Chip\nfrom . import clock"),
        ("fleetflash/cli/lab.py", "from fleetflash.lab import bench"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert violations(tmp_path) == []
