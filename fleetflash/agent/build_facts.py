"""What a build on this host would be made with."""

import platform
import shutil
import subprocess
import zlib
from typing import Any, Dict, List

_FORMAT = "${Package}\t${Version}\t${Architecture}\t${db:Status-Status}\n"


def look(packages: List[str]) -> Dict[str, Any]:
    """Return the machine's architecture, Python's zlib, and the version and architecture of installed packages.

    ``{"machine": as uname -m says it, "zlib": version, "debian": is there dpkg-query, "packages": {name: [version,
    architecture]}}``; source of the states: dpkg-query(1).
    """
    debian = shutil.which("dpkg-query") is not None
    return {
        "machine": platform.machine(),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        "debian": debian,
        "packages": _installed(packages) if debian and packages else {},
    }


def _installed(packages: List[str]) -> Dict[str, List[str]]:
    answer = subprocess.run(
        ["dpkg-query", "--show", f"--showformat={_FORMAT}", "--", *packages],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    found = {}
    for line in answer.stdout.decode(errors="replace").splitlines():
        name, version, architecture, status = line.split("\t")
        if status == "installed":
            found[name] = [version, architecture]
    return found


def missing(programs: List[str], path: str) -> List[str]:
    """Return which of ``programs`` are not to be found on ``path``."""
    return [program for program in programs if shutil.which(program, path=path) is None]
