"""What shall be: a printer's folders, its configuration as far as it follows from its boards, and its services."""

import io
import shlex
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import gevent
from jinja2 import Environment, StrictUndefined
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
from fleetflash.provision import printer_cfg
from fleetflash.report import run as report

FOLDERS = ("", "config", "logs", "comms", "gcodes", "systemd")
UNITS = "/etc/systemd/system"
#: Where the agent notes what runs from something that was changed (``fleetflash.agent.pending_restart``).
MARKS = "/run/fleetflash-site"
#: klippy's first start compiles its helper, in seconds.
START_SECONDS = 120.0


@operation()
def folders(instance: Instance, user: str) -> Generator[Any, None, None]:
    """
    Have the folders of a printer's data, as KIAUH lays them out.

    + instance: which printer
    + user: whose they are
    """
    for folder in FOLDERS:
        path = f"{instance.data}/{folder}".rstrip("/")
        yield from files.directory._inner(path=path, user=user, group=user, mode="755")


@operation()
def sections(instance: Instance, user: str, boards: Sequence[Board]) -> Generator[Any, None, None]:
    """
    Have an ``[mcu …]`` section for each board in a file of its own, beside printer.cfg.

    + instance: which printer
    + user: whose files they are
    + boards: the printer's
    """
    path = f"{instance.config}/{printer_cfg.FILE}"
    text = printer_cfg.mcu_sections(boards)
    put = files.put._inner(src=io.StringIO(text), dest=path, user=user, group=user, mode="644", create_remote_dir=False)
    yield from _restarting(list(put), instance.service)


@operation()
def configuration(instance: Instance, user: str, add_include: bool) -> Generator[Any, None, None]:
    """
    Have a printer.cfg that includes the boards' sections: a minimal one where there is none.

    + instance: which printer
    + user: whose file it is
    + add_include: may the line be put at the top of a printer.cfg that lacks it; without, the run says so
    """
    path = f"{instance.config}/printer.cfg"
    lines = host.get_fact(FindInFile, path=path, pattern=printer_cfg.INCLUDE_PATTERN)
    if lines is None:
        yield from _restarting([_make(path, user, printer_cfg.minimal(instance.data))], instance.service)
    elif lines:
        host.noop("printer.cfg includes the boards' sections")
    elif add_include:
        yield from _restarting([_prepend(path)], instance.service)
    else:
        logger.warning(
            f"{host.print_prefix}{path} lacks the line {printer_cfg.INCLUDE}: add it and take its own [mcu] sections "
            "out, or have it added at the top with klipper_add_include = True"
        )
        host.noop("printer.cfg is left alone")


@operation()
def moonraker_configuration(instance: Instance, user: str, template: str) -> Generator[Any, None, None]:
    """
    Have a moonraker.conf where there is none; one that is there belongs to the user.

    + instance: which printer
    + user: whose file it is
    + template: the file in ``templates/``
    """
    path = f"{instance.config}/moonraker.conf"
    if host.get_fact(File, path=path):
        host.noop("moonraker.conf is there")
        return
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    text = environment.from_string(Path("templates", template).read_text()).render(instance=instance)
    yield from _restarting([_make(path, user, text)], instance.moonraker_service)


@operation()
def unit(service: str, template: str, restarts: bool = True, **values: Any) -> Generator[Any, None, None]:
    """
    Have a systemd unit from a template, and systemd know it.

    + service: the unit's name
    + template: the file in ``templates/``
    + restarts: whether a service that runs must be restarted for it
    + values: what the template sees
    """
    commands = list(
        files.template._inner(
            src=f"templates/{template}", dest=f"{UNITS}/{service}", user="root", group="root", mode="644", **values
        )
    )
    if not commands:
        host.noop(f"{service} is what it shall be")
        return
    yield from _restarting(commands, service)
    yield from systemd.daemon_reload._inner()


@operation()
def running(service: str, instance: Instance) -> Generator[Any, None, None]:
    """
    Have a service enabled and running, from what lies on the disk now: restarted if that was changed, and never
    while its printer prints.

    + service: klippy's or Moonraker's
    + instance: the printer that it belongs to
    """
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
