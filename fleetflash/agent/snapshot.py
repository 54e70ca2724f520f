"""Everything that a plan needs to know of a host, gathered in one go and without changing anything. Needs no root."""

import os
import pwd
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, Optional

from fleetflash.agent import connections, devices, guard, klippy, leftovers, systemd
from fleetflash.agent.connections import CONNECTIONS
from fleetflash.agent.holds import Holds
from fleetflash.agent.lineage import Lineages
from fleetflash.agent.observed import (
    HOST_CODE,
    BoardFacts,
    CheckoutFacts,
    Firmware,
    Holder,
    PortFacts,
    Probe,
    ServiceFacts,
    Snapshot,
    SnapshotRequest,
    TransactionFacts,
)
from fleetflash.agent.port import Port, PortAbsentError, PortError
from fleetflash.agent.ports import SerialPort, holders
from fleetflash.agent.protocols import klipper
from fleetflash.agent.protocols.errors import ProtocolError
from fleetflash.agent.store import Store, StoreError

#: klippy reaches ready, or gives up on a board for the moment, within this many seconds.
STARTUP_SECONDS = 6.0
#: klippy that has only just started offers its socket within this many seconds, also on a slow computer.
SOCKET_SECONDS = 20.0
SERVICE_PROPERTIES = ("LoadState", "ActiveState", "MainPID", "User")


def take(request: SnapshotRequest, store: Store) -> Snapshot:
    """Raises ``StoreError`` when the host's own record is there but can't be read."""
    if store.root.exists() and not os.access(str(store.root), os.R_OK | os.X_OK):
        raise StoreError(f"{store.root} can't be read by this user; as root: chmod 755 {store.root}")
    no_systemd = _why_no_systemd()
    units = {} if no_systemd else systemd.show_all([*_services(request), *guard.UNITS], SERVICE_PROPERTIES)
    idle = not units or guard.are_idle(units)
    # Before klippy is waited for: what is a leftover now may be a transaction by then.
    left = [] if no_systemd else [str(one) for one in leftovers.find(store, idle)]
    transaction = None if no_systemd else _transaction(store, not idle)
    service, status = _service(request, units, no_systemd)
    ports = [
        PortFacts(
            port.device,
            port.by_id,
            port.by_path,
            port.usb,
            [Holder(pid, command) for pid, command in holders(port.device)],
        )
        for port in devices.list_ports({})
    ]
    sections = status.sections if status else []
    serials = {section.name: section.serial for section in sections}
    names = [probe.name for probe in request.boards]
    return Snapshot(
        hostname=socket.gethostname(),
        python=sys.version.split()[0],
        sudo=_why_no_sudo(),
        systemd=no_systemd,
        disk_free=_disk_free(store.root),
        service=service,
        ports=ports,
        boards={
            probe.name: _board(probe, ports, service, status, serials, bool(units), store) for probe in request.boards
        },
        transaction=transaction,
        needs_attention=store.attention(),
        sections=sections,
        esptool=_why_no_esptool() if any(not probe.klipper for probe in request.boards) else "",
        checkout=_checkout(request, service, status) if service.unit else None,
        holds=Holds(store).all(),
        lineages={name: past for name in [*names, HOST_CODE] if (past := Lineages(store).of(name))},
        leftovers=left,
    )


def _services(request: SnapshotRequest) -> List[str]:
    return [request.service] if request.service else []


def _service(
    request: SnapshotRequest, units: Dict[str, Dict[str, str]], no_systemd: str
) -> "tuple[ServiceFacts, Optional[klippy.Status]]":
    if not request.service:
        return ServiceFacts(unit="", active="none"), None
    if no_systemd:
        return ServiceFacts(unit=request.service, active="unknown", error=no_systemd), None
    facts = units[request.service]
    active = facts.get("ActiveState", "unknown")
    if facts.get("LoadState") == "not-found":
        active = "absent"
    user = facts.get("User", "")
    path = request.socket or _klippy_socket(user)
    status, state, problem = None, "", ""
    main_pid = int(facts.get("MainPID") or 0)
    if active in systemd.ACTIVE_STATES:
        try:
            status = _status(path)
            state = status.state
        except klippy.KlippyError as failure:
            problem = str(failure)
            if klippy.never_opened(path, main_pid):
                state = "startup"
                problem = f"klippy hangs in its start: it has not opened {path}; see journalctl -u {request.service}"
    service = ServiceFacts(
        unit=request.service,
        active=active,
        main_pid=main_pid,
        user=user,
        socket=path,
        klippy=state,
        print_state=status.print_state if status else "",
        paused=status.paused if status else False,
        error=problem or (" ".join(status.message.split()) if status and status.state != "ready" else ""),
    )
    return service, status


def _status(path: str) -> klippy.Status:
    """Ask klippy; one that has only just started gets a moment to find its boards."""
    started = time.monotonic()
    while True:
        waited = time.monotonic() - started
        try:
            status = klippy.status(path, sections=True)
        except klippy.KlippyError:
            if waited > SOCKET_SECONDS or os.path.exists(path):
                raise
        else:
            if status.state != "startup" or waited > STARTUP_SECONDS:
                return status
        time.sleep(0.3)


def _checkout(
    request: SnapshotRequest, service: ServiceFacts, status: Optional[klippy.Status]
) -> Optional[CheckoutFacts]:
    if request.checkout is None:
        return None
    from fleetflash.agent import checkout_facts  # for code that moves with its boards alone

    return checkout_facts.look(request.checkout, service, status)


def _board(
    probe: Probe,
    ports: List[PortFacts],
    service: ServiceFacts,
    status: Optional[klippy.Status],
    sections: Dict[str, str],
    guarded: bool,
    store: Store,
) -> BoardFacts:
    ledger = store.ledger(probe.name)
    place = ledger.by_path if ledger else ""
    found = connections.locate(probe.connection, probe.port, ports, probe.moves, place)
    device = found[0] if len(found) == 1 else ""
    section = sections.get(probe.klippy_mcu or "", "")
    return BoardFacts(
        name=probe.name,
        device=device,
        candidates=found,
        firmware=_firmware(probe, device, ports, service, status, guarded),
        ledger=ledger,
        klippy_device=_klippy_device(probe, section),
        uid=devices.native_serial_number_of(device, ports),
        moved=bool(device) and not connections.locate(probe.connection, probe.port, ports, False, ""),
    )


def _klippy_device(probe: Probe, serial: str) -> str:
    """Return the device behind klippy's name of a port; empty when that name means nothing now."""
    if not serial.startswith("/dev/"):
        return serial if probe.connection in CONNECTIONS else ""
    if (probe.moves or probe.connection == "usb") and not os.path.exists(serial):
        return ""
    return os.path.realpath(serial)


def _firmware(
    probe: Probe,
    device: str,
    ports: List[PortFacts],
    service: ServiceFacts,
    status: Optional[klippy.Status],
    guarded: bool,
) -> Firmware:
    """Ask klippy while it runs; the board itself only when nobody else uses its port or is about to.

    ``guarded``: whether systemd can say if a transaction runs, which may have begun since the host was looked at.
    """
    asked = status.mcus.get(probe.klippy_mcu or "") if status else None
    if asked is not None and asked.version:
        return asked
    if not device:
        return Firmware(source="none", error=connections.absence(probe.connection, probe.port))
    if not probe.klipper:
        return Firmware(source="unasked", error="only a reset would have it say what it runs")
    held = [holder for port in ports if port.device == device for holder in port.holders]
    if held:
        return Firmware(source="unasked", error=f"{device} is held by process {held[0].pid} ({held[0].command})")
    if probe.quiet and status is not None and status.prints:
        return Firmware(source="unasked", error=f"opening {device} would reset its board while the printer prints")
    if guarded and not guard.is_idle():
        return Firmware(source="unasked", error=f"a transaction is running and may open {device} at any moment")
    if service.active in systemd.ACTIVE_STATES and service.klippy not in ("error", "shutdown", "ready"):
        return Firmware(source="none", error=f"klippy is about to open {device}, and does not get through to it")
    try:
        port = _open(probe, device)
    except PortAbsentError as error:
        return Firmware(source="none", error=str(error))
    except PortError as error:
        return Firmware(source="unasked", error=str(error))
    try:
        time.sleep(probe.quiet)
        dictionary = klipper.identify(port, timeout=0.4, tries=3)
    except ProtocolError as error:
        return Firmware(source="none", error=str(error))
    finally:
        port.close()
    return Firmware("identify", dictionary.version, dictionary.build_versions, dictionary.constants)


def _open(probe: Probe, device: str) -> Port:
    if probe.connection in CONNECTIONS:
        return CONNECTIONS[probe.connection].open_application(probe.port, probe.baud, 0.0)
    return SerialPort.open(device, probe.baud)


def _transaction(store: Store, running: bool) -> Optional[TransactionFacts]:
    newest = store.newest_transaction()
    if newest is None:
        return TransactionFacts(id="", outcome="", running=True) if running else None
    record = store.read_outcome(newest) or {}
    boards: Dict[str, str] = {
        name: str(board.get("result", "")) for name, board in dict(record.get("boards", {})).items()
    }
    return TransactionFacts(
        id=newest,
        outcome=str(record.get("outcome", "")),
        running=running,
        reported=store.is_reported(newest),
        detail=str(record.get("detail", "")),
        controller=store.controller(newest),
        ended_at=float(record.get("ended_at", 0.0)),
        boards=boards,
    )


def _klippy_socket(user: str) -> str:
    """Return where KIAUH's layout puts klippy's socket."""
    try:
        home = Path(pwd.getpwnam(user).pw_dir) if user else Path.home()
    except KeyError:
        home = Path.home()
    return str(home / "printer_data/comms/klippy.sock")


def _why_no_sudo() -> str:
    if os.geteuid() == 0:
        return ""
    user = pwd.getpwuid(os.geteuid()).pw_name
    # As the controller asks sudo for it: sudo compares names, so another name of the same file would not do.
    python = "python3"
    grant = f"grant it with a file in /etc/sudoers.d: {user} ALL=(root) NOPASSWD: /usr/bin/python3"
    try:
        result = subprocess.run(
            ["sudo", "-n", "-l", python],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"user {user} can't use sudo ({error}); {grant}"
    return (
        "" if result.returncode == 0 else f"user {user} may not run {python} through sudo without a password; {grant}"
    )


def _why_no_esptool() -> str:
    from fleetflash.agent.tools import environment  # only where there are such boards

    try:
        environment.find()
    except environment.ToolError as error:
        return str(error)
    return ""


def _why_no_systemd() -> str:
    return (
        "" if Path("/run/systemd/system").is_dir() else "the host does not run systemd, so nothing could guard Klipper"
    )


def _disk_free(root: Path) -> int:
    existing = root
    while not existing.exists():
        existing = existing.parent
    room = os.statvfs(str(existing))
    return room.f_bavail * room.f_frsize
