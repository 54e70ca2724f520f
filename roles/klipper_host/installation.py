"""What a Klipper host runs from: from a bare Debian with SSH to a Klipper that is ready for its boards."""

from pyinfra import host
from pyinfra.api import deploy

from fleetflash.boards import Board, BoardDataError, read_host
from fleetflash.facts import installation
from fleetflash.host_state import (
    HostStateError,
    Installation,
    Instance,
    permission,
    read_installation,
    read_instance,
)
from fleetflash.operations import debian, klipper, printer, sudoers
from fleetflash.provision import expected, printer_files
from fleetflash.provision.expected import Expected


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
    login = str(host.data.get("ssh_user") or "") if wanted.sudoers and installation.needs_sudo(host) else ""
    boards, units = _boards(), _units(wanted, instance)
    installation.expect(host, _expected(wanted, instance, login, boards, units))
    if installation.bringer(host) == host.name:
        debian.packages(name="Debian packages are installed", packages=wanted.packages, **root)
        debian.user(name=f"{user} may open serial ports", user=user, home=wanted.home, groups=wanted.groups, **root)
        if login:
            sudoers.agent_rule(name=f"{login} may run the agent as root", user=login, **root)
    klipper.source(name="Klipper's source is at its commit")
    klipper.environment(name="Klipper's virtualenv is complete", path=installation.ENVIRONMENT)
    klipper.helper(name="klippy's C helper is built")
    if wanted.moonraker is not None:
        klipper.environment(name="Moonraker's virtualenv is complete", path=installation.MOONRAKER)
    printer.folders(name="The printer's folders are there", instance=instance, user=user, **root)
    if boards is not None:
        printer.sections(name="The boards' sections are there", instance=instance, user=user, boards=boards, **root)
    printer.configuration(
        name="printer.cfg includes them", instance=instance, user=user, add_include=add_include, **root
    )
    unit, api = instance.service, instance.moonraker_service
    printer.unit(name="Klipper's unit is there", service=unit, text=units[unit], **root)
    if wanted.moonraker is not None:
        printer.moonraker_configuration(
            name="moonraker.conf is there", instance=instance, user=user, template="moonraker.conf.j2", **root
        )
        printer.unit(name="Moonraker's unit is there", service=api, text=units[api], **root)
    printer.running(name="Klipper runs from all that", service=unit, instance=instance, **root)
    if wanted.moonraker is not None:
        printer.running(name="Moonraker runs from all that", service=api, instance=instance, **root)


def _units(wanted: Installation, instance: Instance) -> dict[str, str]:
    """Return the text of each unit."""
    values = {"instance": instance, "account": wanted.user, "home": wanted.home}
    units = {instance.service: printer_files.rendered("klipper.service.j2", **values)}
    if wanted.moonraker is not None:
        units[instance.moonraker_service] = printer_files.rendered("moonraker.service.j2", **values)
    return units


def _expected(
    wanted: Installation, instance: Instance, login: str, boards: tuple[Board, ...] | None, units: dict[str, str]
) -> list[Expected]:
    """Return what the operations below need not ask for when one look finds it so."""
    found = printer_files.expected_folders(instance, wanted.user)
    if installation.bringer(host) == host.name:
        found += [expected.packages(wanted.packages), expected.account(wanted.user, wanted.home, wanted.groups)]
        found += [sudoers.expected_rule(login)] if login else []
    if boards is not None:
        found.append(printer_files.expected_sections(instance, wanted.user, boards))
    found.append(printer_files.expected_include(instance))
    if wanted.moonraker is not None:
        found.append(printer_files.expected_moonraker_configuration(instance))
    for service, text in units.items():
        found += [printer_files.expected_unit(service, text), expected.service(service)]
    return found


def _boards() -> tuple[Board, ...] | None:
    """Return the boards, unless one is malformed: its section must not vanish because of that."""
    try:
        described = read_host(host.name, host.data.dict())
    except BoardDataError:
        return None
    return None if described.errors else described.boards
