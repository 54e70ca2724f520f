"""Where a pinned ESP-IDF is: in a place of the user's, or installed from its archive into the toolchain cache.

::

    <cache>/<sha256>/tree/<directory>/    its IDF_PATH, unpacked by ``ToolchainCache``
    <cache>/<sha256>/idf-tools/           its IDF_TOOLS_PATH: compilers and the Python environment
    <cache>/<sha256>/idf-tools.json       for which targets that is complete

A Python environment names its own place, so it can't be made elsewhere and moved: what is not in ``idf-tools.json``
does not exist, and what a builder that died has left is made anew.

Source: ESP-IDF, ``install.sh`` and ``tools/idf_tools.py`` (``install --targets``, ``install-python-env``, which of the
user's variables they follow).
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build.errors import ToolchainError
from fleetflash.build.idf.esp_idf import EspIdf
from fleetflash.build.lock import held
from fleetflash.build.toolchain_cache import ToolchainCache
from fleetflash.firmware.durable import sync_directory, write_read_only

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
TOOLS, COMPLETE = "idf-tools", "idf-tools.json"
#: Some gigabytes through a slow line, in seconds.
INSTALL_SECONDS = 4 * 3600.0
#: How a network is reached, for idf_tools.py and pip. Nothing else of the user's is given to them but HOME.
_NETWORK = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("IDF_GITHUB_ASSETS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_CERT"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
)

Report = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """An ESP-IDF on this computer. ``archive``: its sha256, if it has one. ``repair``: what puts it right."""

    path: Path
    tools: Path
    archive: str
    repair: str

    def variables(self) -> dict[str, str]:
        """Return the environment that it starts from: nothing of the user's but HOME."""
        home = {name: os.environ[name] for name in ("HOME",) if name in os.environ}
        own = {"IDF_PATH": str(self.path), "IDF_TOOLS_PATH": str(self.tools)}
        return {**home, "PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8", **own}


@contextmanager
def place(pinned: EspIdf, target: str, cache: ToolchainCache, report: Report = lambda text: None) -> Iterator[Place]:
    """Yield where an ESP-IDF is, installed for ``target`` first if need be; nobody removes it meanwhile.

    Raises ``ToolchainError``.
    """
    if pinned.archive is None:
        path, tools = Path(pinned.path).expanduser(), Path(pinned.tools_path).expanduser()
        yield Place(path, tools, "", f"IDF_TOOLS_PATH={tools} {path}/install.sh {target}")
        return
    with cache.tree(pinned.toolchain(), pinned.archive, report) as tree:
        tree = tree.absolute()
        entry = tree.parent
        again = f"rm -r {entry / COMPLETE}, then build again"
        found = Place(tree / pinned.inside, entry / TOOLS, pinned.archive.sha256, again)
        if not (found.path / "tools/idf_tools.py").is_file():
            raise ToolchainError(
                f"{pinned}: its archive has no {pinned.inside}/tools/idf_tools.py; correct directory, or pin the "
                "archive with submodules"
            )
        waiting = f"waiting for another builder that installs {pinned}"
        with held(entry / f".{TOOLS}.lock", waiting=lambda: report(waiting)):
            try:
                _complete(found, target, lambda: report(f"installing the tools of {pinned} for {target}"))
            except ToolchainError as error:
                raise ToolchainError(f"{pinned}: {error}") from None
        yield found


def _complete(found: Place, target: str, begins: Callable[[], None]) -> None:
    """Install what is missing for a target."""
    record = found.tools.parent / COMPLETE
    done = _targets(record)
    if target in done:
        return
    begins()
    if not done:
        shutil.rmtree(found.tools, ignore_errors=True)
    found.tools.mkdir(exist_ok=True)
    _idf_tools(found, "install", f"--targets={target}")
    if not done:
        _idf_tools(found, "install-python-env")
    os.sync()  # what the record promises must be on the disk before it
    new = record.with_suffix(".new")
    new.unlink(missing_ok=True)
    write_read_only(new, json.dumps(sorted({*done, target})).encode() + b"\n")
    new.rename(record)
    sync_directory(record.parent)


def _targets(record: Path) -> list[str]:
    with suppress(FileNotFoundError, ValueError):
        return [str(target) for target in json.loads(record.read_text())]
    return []


def _idf_tools(found: Place, *arguments: str) -> None:
    # ESP-IDF makes its environment of the Python that runs this, and refuses to do so from within another one.
    command = ["python3", str(found.path / "tools/idf_tools.py"), "--non-interactive", *arguments]
    network = {name: os.environ[name] for name in _NETWORK if name in os.environ}
    shown = f"idf_tools.py {' '.join(arguments)}"
    try:
        answer = subprocess.run(
            command,
            env={**network, **found.variables()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ToolchainError(f"{shown} does not end; check the network, then build again") from None
    except FileNotFoundError:
        raise ToolchainError(f"{shown}: python3 is not installed: apt-get install python3 python3-venv") from None
    if answer.returncode:
        lines = [line.strip() for line in answer.stdout.decode(errors="replace").splitlines() if line.strip()]
        said = " | ".join(lines[-2:])[:400] or "it says nothing"
        raise ToolchainError(f"{shown} failed ({said}); check the network and the disk, then build again")
