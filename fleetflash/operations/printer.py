"""What shall be: a printer's folders, its configuration as far as it follows from its boards, and its services."""

import io
import shlex
import time
from collections.abc import Generator, Sequence
from typing import Any

import gevent
from pyinfra import host, logger
from pyinfra.api import FunctionCommand, operation
from pyinfra.facts.files import File, FindInFile
from pyinfra.operations import files, systemd

from fleetflash.agent.schema import SnapshotRequest
from fleetflash.boards import Board
from fleetflash.facts import installation
from fleetflash.facts.decision import transport
from fleetflash.facts.snapshot import take
from fleetflash.host_state import Instance
from fleetflash.link.errors import LinkError
from fleetflash.operations.bring import bring
from fleetflash.provision import expected, printer_cfg, printer_files
from fleetflash.report import run as report

#: Where the agent notes what runs from something that was changed (``fleetflash.agent.pending_restart``).
MARKS = "/run/fleetflash-site"
#: klippy's first start on the slowest board, which compiles all of its Python, in seconds.
START_SECONDS = 120.0


@operation()
def folders(instance: Instance, user: str) -> Generator[Any, None, None]:
    """
    Have the folders of a printer's data, as KIAUH lays them out.

    + instance: which printer
    + user: whose they are
    """
    there = printer_files.expected_folders(instance, user)
    yield from bring(there, lambda: _make_folders(instance, user), "the folders are there")


def _make_folders(instance: Instance, user: str) -> Generator[Any, None, None]:
    for path in printer_files.folders(instance):
        yield from files.directory._inner(path=path, user=user, group=user, mode="755")


@operation()
def sections(instance: Instance, user: str, boards: Sequence[Board]) -> Generator[Any, None, None]:
    """
    Have an ``[mcu …]`` section for each board in a file of its own, beside printer.cfg.

    + instance: which printer
    + user: whose files they are
    + boards: the printer's
    """
    path, text = printer_files.sections(instance), printer_cfg.mcu_sections(boards)
    there = [printer_files.expected_sections(instance, user, boards)]
    yield from bring(there, lambda: _restarting(_put(path, text, user), instance.service), "the sections are there")


@operation()
def configuration(instance: Instance, user: str, add_include: bool) -> Generator[Any, None, None]:
    """
    Have a printer.cfg that includes the boards' sections: a minimal one where there is none.

    + instance: which printer
    + user: whose file it is
    + add_include: may the line be put at the top of a printer.cfg that lacks it; without, the run says so
    """
    there = [printer_files.expected_include(instance)]
    yield from bring(there, lambda: _include(instance, user, add_include), "printer.cfg is there, or left alone")


def _include(instance: Instance, user: str, add_include: bool) -> Generator[Any, None, None]:
    path = printer_files.configuration(instance)
    lines = host.get_fact(FindInFile, path=path, pattern=printer_cfg.INCLUDE_PATTERN)
    if lines is None:
        yield from _restarting([_make(path, user, printer_cfg.minimal(instance.data))], instance.service)
    elif add_include and not lines:
        yield from _restarting([_prepend(path)], instance.service)
    elif not lines:
        logger.warning(
            f"{host.print_prefix}{path} lacks the line {printer_cfg.INCLUDE}: add it and take its own [mcu] sections "
            "out, or have it added at the top with klipper_add_include = True"
        )


@operation()
def moonraker_configuration(instance: Instance, user: str, template: str) -> Generator[Any, None, None]:
    """
    Have a moonraker.conf where there is none; one that is there belongs to the user.

    + instance: which printer
    + user: whose file it is
    + template: the file in ``templates/``
    """
    there = [printer_files.expected_moonraker_configuration(instance)]
    yield from bring(there, lambda: _moonraker_configuration(instance, user, template), "moonraker.conf is there")


def _moonraker_configuration(instance: Instance, user: str, template: str) -> Generator[Any, None, None]:
    path = printer_files.moonraker_configuration(instance)
    if not host.get_fact(File, path=path):
        text = printer_files.rendered(template, instance=instance)
        yield from _restarting([_make(path, user, text)], instance.moonraker_service)


@operation()
def unit(service: str, text: str) -> Generator[Any, None, None]:
    """
    Have a systemd unit of this text, and systemd know it. A service that runs must be restarted for it.

    + service: the unit's name
    + text: of its file
    """
    there = [printer_files.expected_unit(service, text)]
    yield from bring(there, lambda: _unit(service, text), f"{service} is what it shall be")


def _unit(service: str, text: str) -> Generator[Any, None, None]:
    commands = _put(printer_files.unit(service), text, "root")
    yield from _restarting(commands, service)
    if commands:
        yield from systemd.daemon_reload._inner()


@operation()
def running(service: str, instance: Instance) -> Generator[Any, None, None]:
    """
    Have a service enabled and running, from what lies on the disk now: restarted if that was changed, and never
    while its printer prints.

    + service: klippy's or Moonraker's
    + instance: the printer that it belongs to
    """
    if installation.confirmed(host, expected.service(service)):
        host.noop(f"{service} runs what it shall")
        return
    mark = f"{MARKS}/restart-{service}"
    commands = list(systemd.service._inner(service=service, running=True, enabled=True))
    must_restart = bool(host.get_fact(File, path=mark))
    if not commands and not must_restart:
        host.noop(f"{service} runs what it shall")
        return
    disturbed = [host] if must_restart or service == instance.service else []
    try:
        reason = installation.why_busy(host, disturbed) if host.state.is_executing else ""
    except LinkError as error:
        reason = str(error)
    if reason:
        text = f"{service} must be started anew, which has to wait: {reason}; run again when it is idle"
        logger.warning(f"{host.print_prefix}{text}")
        report.current(host.state).add_waiting(host.name, text)
        host.noop("waits until the printer is idle")
        return
    if must_restart:
        # A run that died may have put the unit there without telling systemd.
        restart = f"systemctl enable --quiet {service} && systemctl restart {service}"
        yield f"systemctl daemon-reload && {restart} && rm -f {mark}"
    else:
        yield from commands
    if service == instance.service:
        yield FunctionCommand(_wait_for_klippy, (instance,), {})


def _wait_for_klippy(state: Any, host: Any, instance: Instance) -> bool:
    """Give klippy the time to find its boards, so that what comes next finds it ready."""
    deadline = time.monotonic() + START_SECONDS
    request = SnapshotRequest([], instance.service, instance.socket)
    said = ""
    while time.monotonic() < deadline:
        try:
            service = take(transport(host), host.name, request).service
        except LinkError as error:
            logger.error(f"{host.print_prefix}{error}")
            return False
        if service.klippy == "ready":
            return True
        if service.active not in ("active", "unknown"):
            logger.error(
                f"{host.print_prefix}{instance.service} was started and has ended at once ({service.active}); "
                f"see journalctl -u {instance.service} and {instance.data}/logs/klippy.log"
            )
            return False
        said = service.error or f"klippy is {service.klippy or 'silent'}"
        if service.klippy in ("error", "shutdown"):
            break
        gevent.sleep(0.5)
    # A board with an old firmware is a reason, too, and the next step is to flash it.
    logger.warning(f"{host.print_prefix}{instance.service} was started, but {said}")
    return True


def _restarting(commands: Sequence[Any], service: str) -> Generator[Any, None, None]:
    """Note that a service runs from what these commands change, before they do."""
    if commands:
        yield f"mkdir -p {MARKS} && touch {MARKS}/restart-{service}"
        yield from commands


def _put(path: str, text: str, user: str) -> list[Any]:
    """Return the commands that write a file where it differs."""
    place = {"dest": path, "user": user, "group": user, "mode": "644"}
    return list(files.put._inner(src=io.StringIO(text), create_remote_dir=False, **place))


def _make(path: str, user: str, text: str) -> str:
    """Return a command that makes a file where there is none, whatever pyinfra's fact took for none."""
    draft, owner = shlex.quote(f"{path}.fleetflash"), shlex.quote(f"{user}:{user}")
    return (
        f"[ -e {shlex.quote(path)} ] || {{ printf %s {shlex.quote(text)} > {draft} && chmod 644 {draft} && "
        f"chown {owner} {draft} && sync {draft} && mv -n {draft} {shlex.quote(path)}; }}"
    )


def _prepend(path: str) -> str:
    """Return a command that puts the line at a file's top: all of it or nothing, its owner and mode as they were."""
    return (
        f"file=$(readlink -f {shlex.quote(path)}) && "
        f'{{ printf "%s\\n\\n" {shlex.quote(printer_cfg.INCLUDE)} && cat "$file"; }} > "$file.fleetflash" && '
        'chown --reference="$file" "$file.fleetflash" && chmod --reference="$file" "$file.fleetflash" && '
        'sync "$file.fleetflash" && mv "$file.fleetflash" "$file"'
    )
