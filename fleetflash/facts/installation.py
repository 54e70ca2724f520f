"""What a host runs Klipper from, against what it shall, with all entries of the inventory that are the same host."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetflash.agent.schema import HOST_CODE, Snapshot, SnapshotRequest
from fleetflash.agent.tools.environment import TOOLS
from fleetflash.build.errors import BuildError
from fleetflash.build.location import cache_directory
from fleetflash.build.source import Revision
from fleetflash.facts.address import address
from fleetflash.facts.decision import transport
from fleetflash.facts.snapshot import take
from fleetflash.host_state import (
    Environment,
    HostStateError,
    Installation,
    Instance,
    read_flash_tools,
    read_installation,
    read_instance,
)
from fleetflash.link.errors import LinkError
from fleetflash.plan import Printer, printer_state
from fleetflash.plan.hold import why_held as held
from fleetflash.provision import bundle, requirements
from fleetflash.provision.conversation import Found, Provisioning
from fleetflash.provision.errors import ProvisionError
from fleetflash.provision.expected import Expected

TREE, ENVIRONMENT, MOONRAKER = "klipper", "klippy-env", "moonraker-env"

Errors = (HostStateError, ProvisionError, LinkError, BuildError)


@dataclass(frozen=True)
class Desired:
    """What a host shall have, read on the controller. ``services``: all that run from it.

    ``revision``: the commit to push; ``None`` when the host fetches it. ``ref``: what the host compares with.
    ``texts``: path of a virtualenv → its requirements.
    """

    installation: Installation
    instance: Instance
    revision: Revision | None
    ref: str
    texts: dict[str, str]
    services: tuple[str, ...]

    def run_from(self, path: str) -> list[str]:
        """Return the services that run from a source tree or a virtualenv."""
        return [service for service in self.services if service.startswith("moonraker") == (path == MOONRAKER)]

    def source_of(self, path: str) -> Environment:
        found = self.installation if path == ENVIRONMENT else self.installation.moonraker
        assert found is not None
        return found


def desired(host: Any) -> Desired:
    """Return what the inventory says; raises one of ``Errors``."""
    data = host.data.dict()
    installation = read_installation(data)
    if installation is None:
        raise HostStateError("klipper: the data says nothing about it; see docs/site.md")
    instance = read_instance(data, installation)
    revision = None
    if installation.fetch == "push":
        cache = cache_directory(data.get("build_cache"))
        revision = bundle.resolve(cache, installation.repository, installation.ref)
    texts = {ENVIRONMENT: requirements.read(Path(installation.requirements))}
    if installation.moonraker is not None:
        texts[MOONRAKER] = requirements.read(Path(installation.moonraker.requirements))
    ref = revision.commit if revision else installation.ref
    return Desired(installation, instance, revision, ref, texts, _services(host, installation))


def leftovers(host: Any, *, remove: bool) -> list[str]:
    """Return one line for each thing that changes of this host which died have left; have it removed if asked.

    A host whose data names neither Klipper nor tools is not asked. Raises one of ``Errors``.
    """
    data = host.data.dict()
    installation, found = read_installation(data), list[str]()
    if installation is not None and bringer(host) == host.name:
        found += provisioning(host).sweep(installation.user, [TREE], [ENVIRONMENT, MOONRAKER], remove=remove)
    if read_flash_tools(data) is not None:
        found += provisioning(host).sweep("", [], [str(TOOLS)], remove=remove)
    return found


def needs_sudo(host: Any) -> bool:
    return bool(host.data.get("ssh_user") != "root")


def provisioning(host: Any) -> Provisioning:
    return Provisioning(transport(host), host.name, needs_sudo(host))


#: What hosts had when they were asked last, and in which circumstances.
_known: dict[str, tuple[tuple[bool, bool], Found]] = {}
#: What entries are expected to have when there is nothing to do.
_expected: dict[str, frozenset[Expected]] = {}
#: Hosts on which this run has changed something: what was seen before may be true no longer.
_changed: set[tuple[str, int]] = set()


def expect(host: Any, everything: Iterable[Expected]) -> None:
    """Have these checked by the look that the host gets anyway, so that no operation has to ask by itself."""
    _expected[host.name] = frozenset(everything)


def confirmed(host: Any, *expected: Expected) -> bool:
    """Whether a look has found all of these, and nothing was changed on the host since; if not, they may be there."""
    if address(host) in _changed or not _expected.get(host.name, frozenset()).issuperset(expected):
        return False
    known = _known.get(host.name)
    try:
        found = known[1] if known and known[0] == _circumstances(host) else look(host, desired(host))
    except Errors:
        return False
    return found.held.issuperset(expected)


def forget(host: Any) -> None:
    """Have the host asked anew: something is about to be changed there."""
    _known.pop(host.name, None)
    _changed.add(address(host))


def look(host: Any, wanted: Desired) -> Found:
    """Say what the host has. A fresh Debian may have neither Python nor the user: then it has nothing, and why."""
    known = _known.get(host.name)
    if known is None or known[0] != _circumstances(host) or known[1].problem:
        known = _known[host.name] = (_circumstances(host), _look(host, wanted))
    return known[1]


def _circumstances(host: Any) -> tuple[bool, bool]:
    """Whether pyinfra executes its operations or only prepares them, and whether this entry brings what is shared."""
    return bool(host.state.is_executing), bringer(host) == host.name


def _look(host: Any, wanted: Desired) -> Found:
    user, services = wanted.installation.user, list(wanted.services)
    shared = ({TREE: wanted.ref}, wanted.texts) if bringer(host) == host.name else ({}, {})
    expected = () if address(host) in _changed else tuple(_expected.get(host.name, ()))
    try:
        found = provisioning(host).look(user, *shared, services, expected)
    except (LinkError, ProvisionError) as error:
        return Found(problem=str(error))
    if found.home != wanted.installation.home:
        return Found(problem=f"{host.name}: klipper.home: {user} lives in {found.home}; write that into the inventory")
    return found


def entries(host: Any) -> list[Any]:
    """Return all entries of the inventory that are about this host: a printer each."""
    place = address(host)
    return [other for other in host.state.inventory if address(other) == place and _has_klipper(other)]


def bringer(host: Any) -> str:
    """Return the entry that brings what all printers of a host share: the first of this run that has not failed."""
    state = host.state
    able = [other for other in entries(host) if state.is_host_in_limit(other) and other not in state.failed_hosts]
    return str((able or [host])[0].name)


def why_busy(host: Any, printers: list[Any]) -> str:
    """Return why none of these printers of a host may be disturbed now, or nothing; raises ``LinkError``."""
    for other in printers:
        service, observed = str(other.data.get("klipper_service") or ""), _observe(host, other)
        if observed.transaction is not None and observed.transaction.running:
            return f"transaction {observed.transaction.id} is writing boards"
        if observed.service.active != "unknown" and observed.service.main_pid == 0:
            # Not there, stopped, or dying again and again: nothing prints.
            continue
        state = printer_state(observed.service)
        if state in (Printer.PRINTING, Printer.PAUSED):
            return f"{service} is {state}"
        if state is Printer.UNKNOWN:
            return f"can't tell whether {service} prints ({observed.service.error or 'klippy does not answer'})"
    return ""


def why_held(host: Any, wanted: Desired) -> str:
    """Return which rollback keeps a host's source tree where it is, or nothing; raises ``LinkError``."""
    hold = _observe(host, host).holds.get(HOST_CODE)
    return held(hold, wanted.ref, wanted.installation.ref, host.name, HOST_CODE)


def _observe(host: Any, printer: Any) -> Snapshot:
    service, socket = (str(printer.data.get(key) or "") for key in ("klipper_service", "klippy_socket"))
    return take(transport(host), host.name, SnapshotRequest([], service, socket))


def _services(host: Any, installation: Installation) -> tuple[str, ...]:
    """Return the services of all printers of a host; they share one source and one virtualenv."""
    services: list[str] = []
    for other in entries(host):
        data = other.data.dict()
        theirs = read_installation(data)
        if theirs != installation:
            raise HostStateError(
                f"klipper: {host.name} and {other.name} are one host and must say the same; put it into one variable"
            )
        instance = read_instance(data, installation)
        service = instance.service
        if service in services:
            raise HostStateError(f"klipper_service: {other.name} has {service}, as another printer of its host")
        services.append(service)
        if installation.moonraker is not None:
            services.append(instance.moonraker_service)
    return tuple(services)


def _has_klipper(host: Any) -> bool:
    return host.data.get("klipper") is not None
