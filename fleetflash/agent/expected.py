"""Whether a host has exactly what it is expected to have, of many things at once. Changes nothing; needs root.

An expectation is a JSON object; what can't be told does not hold::

    {"kind": "packages", "names": [...]}                             Debian packages, all installed
    {"kind": "account", "user": ..., "home": ..., "groups": [...]}   lives there and is in all groups, among others
    {"kind": "file", "path": ..., "sha256": ..., "owner": ..., "mode": ...}    no link; group as owner, mode octal
    {"kind": "folder", "path": ..., "owner": ..., "mode": ...}                 likewise
    {"kind": "present", "path": ...}                                 any file
    {"kind": "line", "path": ..., "begins": ...}                     a file with a line that begins so
    {"kind": "service", "unit": ...}                 enabled, running, and from what lies on the disk now
"""

import grp
import hashlib
import os
import pwd
import stat
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List

from fleetflash.agent import pending_restart, systemd

Expectation = Dict[str, Any]

_PROPERTIES = ("ActiveState", "UnitFileState")


def held(expectations: List[Expectation]) -> List[bool]:
    """Say of each, in this order, whether it holds."""
    units = _units([str(one["unit"]) for one in expectations if one["kind"] == "service"])
    return [_running(one, units) if one["kind"] == "service" else _holds(one) for one in expectations]


def _holds(expectation: Expectation) -> bool:
    try:
        return _KINDS[expectation["kind"]](expectation)
    except (OSError, KeyError, ValueError):
        return False


def _packages(expectation: Expectation) -> bool:
    # Source: dpkg-query(1): a package that isn't known is an error, and so is one without the status "installed".
    names = list(expectation["names"])
    asked = ["dpkg-query", "--show", "--showformat=${db:Status-Status}\n", *names]
    answer = subprocess.run(asked, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    states = answer.stdout.split()
    return answer.returncode == 0 and len(states) >= len(names) and set(states) <= {b"installed"}


def _account(expectation: Expectation) -> bool:
    entry = pwd.getpwnam(expectation["user"])
    groups = [grp.getgrnam(name) for name in expectation["groups"]]
    member = all(group.gr_gid == entry.pw_gid or entry.pw_name in group.gr_mem for group in groups)
    return member and entry.pw_dir == expectation["home"]


def _file(expectation: Expectation) -> bool:
    path = expectation["path"]
    if not _is(path, stat.S_ISREG, expectation):
        return False
    with open(path, "rb") as file:
        return bool(hashlib.sha256(file.read()).hexdigest() == expectation["sha256"])


def _folder(expectation: Expectation) -> bool:
    return _is(expectation["path"], stat.S_ISDIR, expectation)


def _is(path: str, kind: Callable[[int], bool], expectation: Expectation) -> bool:
    found, owner = os.lstat(path), expectation["owner"]
    ids = (pwd.getpwnam(owner).pw_uid, grp.getgrnam(owner).gr_gid)
    mode = int(expectation["mode"], 8)
    return kind(found.st_mode) and (found.st_uid, found.st_gid) == ids and stat.S_IMODE(found.st_mode) == mode


def _present(expectation: Expectation) -> bool:
    return Path(expectation["path"]).is_file()


def _line(expectation: Expectation) -> bool:
    with open(expectation["path"], encoding="utf-8", errors="replace") as lines:
        return any(line.startswith(expectation["begins"]) for line in lines)


def _running(expectation: Expectation, units: Dict[str, Dict[str, str]]) -> bool:
    unit = str(expectation["unit"])
    facts = units.get(unit, {})
    is_up = facts.get("ActiveState") == "active" and facts.get("UnitFileState") == "enabled"
    return is_up and not pending_restart.marked(unit)


def _units(names: List[str]) -> Dict[str, Dict[str, str]]:
    """Return unit → its properties."""
    try:
        return systemd.show_all(names, _PROPERTIES)
    except systemd.SystemdError:
        return {}


_KINDS: Dict[str, Callable[[Expectation], bool]] = {
    "packages": _packages,
    "account": _account,
    "file": _file,
    "folder": _folder,
    "present": _present,
    "line": _line,
}
