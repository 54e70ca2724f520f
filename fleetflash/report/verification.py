"""What a pyinfra run of ``deploys/verify.py`` has to say at its end: all checks, and an exit code for cron."""

import atexit
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleetflash.build.builder import Builder
from fleetflash.build.compiler import Compiler
from fleetflash.build.errors import BuildError
from fleetflash.build.idf.builder import GatewayBuilder
from fleetflash.build.location import default_cache
from fleetflash.build.toolchain import Toolchain
from fleetflash.build.types_file import TYPES, read_types_file
from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.store import Store
from fleetflash.incident.redaction import Redactor, of_run
from fleetflash.verification.build_checks import check_builds
from fleetflash.verification.check import Check, Result, exit_code, print_checks, to_json
from fleetflash.verification.gateway_build_checks import check_gateway_builds
from fleetflash.verification.rebuild_row import NAME

#: Returns what compiles on a builder of the inventory, given its name, what is pinned, and the build cache.
Find = Callable[[str, Mapping[str, Toolchain], Path], Compiler | None]


@dataclass
class VerificationReport:
    """Collects every host's checks; ``pinned``: artifact id → artifact. ``as_json``: instead of the table.

    ``find``: of the builders that may be asked once more.
    """

    redactor: Redactor
    checks: list[Check] = field(default_factory=list)
    pinned: dict[str, Artifact] = field(default_factory=dict)
    rebuilds: bool = True
    as_json: bool = False
    types: Path = TYPES
    find: Find = lambda _name, _pinned, _cache: None

    def add(self, checks: list[Check], pinned: list[Artifact]) -> None:
        self.checks += checks
        self.pinned.update({artifact.id: artifact for artifact in pinned})

    def unreachable(self, host: str, reason: str) -> None:
        """Add a host to which no connection could be made."""
        self.checks.append(Check(host, "-", "ssh", "reachable", "no answer", Result.FAILED, reason))

    def conclude(self) -> int:
        """Build what is pinned once more, print everything on standard output, and return the exit code."""
        if self.rebuilds:
            self.checks += self._builds()
        clean = self.clean()
        if self.as_json:
            print(to_json(clean))
        else:
            print_checks(clean, sys.stdout)
        return exit_code(clean)

    def clean(self) -> list[Check]:
        """Return all checks without secrets."""
        return [self._clean(check) for check in self.checks]

    def _builds(self) -> list[Check]:
        built = [artifact for artifact in self.pinned.values() if artifact.build]
        if not built:
            return []
        try:
            described = read_types_file(self.types)
        except BuildError as error:
            return [Check("-", "-", NAME, "board types", "none", Result.FAILED, str(error))]
        cache, store, root = default_cache(), Store(), Path.cwd()
        builder = Builder(cache, store, root, described.toolchains, _report)
        gateways = GatewayBuilder(cache, store, root, described.esp_idf, _report)
        return [
            *check_builds(
                builder,
                described.boards,
                [each for each in built if each.esp is None],
                lambda name: self.find(name, described.toolchains, cache),
            ),
            *check_gateway_builds(gateways, described.gateways, [each for each in built if each.esp]),
        ]

    def _clean(self, check: Check) -> Check:
        texts = {name: self.redactor.text(str(value)) for name, value in vars(check).items() if name != "result"}
        return Check(**texts, result=check.result)


_reports: dict[int, VerificationReport] = {}


def current(state: Any, find: Find) -> VerificationReport:
    """Return this pyinfra run's report; the first call arranges for its end.

    + find: of builders, as the report's

    Hosts that pyinfra could not connect to are in it, too.
    """
    if id(state) not in _reports:
        _reports[id(state)] = VerificationReport(of_run(state), find=find)
        atexit.register(_finish, state)
    return _reports[id(state)]


def _finish(state: Any) -> None:
    report = _reports[id(state)]
    seen = {check.host for check in report.checks}
    for host in state.inventory:
        if host.name not in seen and state.is_host_in_limit(host) and host.data.get("boards") is not None:
            report.unreachable(host.name, "SSH did not connect; is the host up?")
    code = report.conclude()
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        os._exit(code)


def _report(text: str) -> None:
    print(text, file=sys.stderr)
