"""What a Klipper host runs from: from a bare Debian with SSH to a Klipper that is ready for its boards."""

from typing import Any

from pyinfra import host
from pyinfra.api import deploy

from fleetflash.boards import Board, BoardDataError, read_host
from fleetflash.facts import installation
from fleetflash.host_state import HostStateError, permission, read_installation, read_instance
from fleetflash.operations import debian, klipper, printer, sudoers


@deploy("Klipper's installation")
def klipper_installation() -> None:
    """Bring packages, user, source, virtualenvs, configuration and services to what ``klipper`` in the data says.

    Nothing is done where the data says nothing. Printers that are one host share what is not a printer's own.
    """
    data = host.data.dict()
    try:
        wanted = read_installation(data)
        if wanted is None:
            return
        instance = read_instance(data, wanted)
        add_include = permission(data, "klipper_add_include")
        permission(data, klipper.DISCARD)
    except HostStateError as error:
        # Raised here, it would end the run for all hosts.
        klipper.refused(name="The host's data is right", reason=str(error))
        return
    user, root = wanted.user, {"_sudo": installation.needs_sudo(host)}
    if installation.bringer(host) == host.name:
        debian.packages(name="Debian packages are installed", packages=wanted.packages, **root)
        debian.user(name=f"{user} may open serial ports", user=user, home=wanted.home, groups=wanted.groups, **root)
        if wanted.sudoers and installation.needs_sudo(host):
            login = str(host.data.get("ssh_user") or "")
            if login:
                sudoers.agent_rule(name=f"{login} may run the agent as root", user=login, **root)
    klipper.source(name="Klipper's source is at its commit")
    klipper.environment(name="Klipper's virtualenv is complete", path=installation.ENVIRONMENT)
    if wanted.moonraker is not None:
        klipper.environment(name="Moonraker's virtualenv is complete", path=installation.MOONRAKER)
    printer.folders(name="The printer's folders are there", instance=instance, user=user, **root)
    boards = _boards()
    if boards is not None:
        printer.sections(name="The boards' sections are there", instance=instance, user=user, boards=boards, **root)
    printer.configuration(
        name="printer.cfg includes them", instance=instance, user=user, add_include=add_include, **root
    )
    values: dict[str, Any] = {"instance": instance, "account": user, "home": wanted.home}
    unit, api = instance.service, instance.moonraker_service
    printer.unit(name="Klipper's unit is there", service=unit, template="klipper.service.j2", **values, **root)
    if wanted.moonraker is not None:
        printer.moonraker_configuration(
            name="moonraker.conf is there", instance=instance, user=user, template="moonraker.conf.j2", **root
        )
        printer.unit(name="Moonraker's unit is there", service=api, template="moonraker.service.j2", **values, **root)
    printer.running(name="Klipper runs from all that", service=unit, instance=instance, **root)
    if wanted.moonraker is not None:
        printer.running(name="Moonraker runs from all that", service=api, instance=instance, **root)


def _boards() -> tuple[Board, ...] | None:
    """Return the boards, unless one is malformed: its section must not vanish because of that."""
    try:
        described = read_host(host.name, host.data.dict())
    except BoardDataError:
        return None
    return None if described.errors else described.boards
