"""What a host is, and so what is to be done with it: one snapshot, one plan."""

import os
import socket
import time
from typing import Any

from fleetflash.acceptance.board_contracts import read_contracts
from fleetflash.boards import BoardDataError, read_host
from fleetflash.facts.host_code import compared, wanted_code
from fleetflash.facts.snapshot import snapshot
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.store import Store
from fleetflash.link.errors import LinkError, UnreachableError
from fleetflash.link.tool import why_no_esptool
from fleetflash.plan import Catalogue, HostPlan, Identity, offline, plan_host, unusable


def decide(host: Any) -> HostPlan:
    """Look at a connected pyinfra host and decide; what keeps that from being done is a plan too."""
    try:
        desired = read_host(host.name, host.data.dict())
        store = Store()
        catalogue = Catalogue(store.find(), store.resolve, read_contracts(desired.boards))
        cache = str(host.data.get("build_cache") or "")
        code = wanted_code(desired.code, cache) if desired.code else None
        observed = snapshot(transport(host), desired, code.commit if code else "")
        code = compared(code, observed.checkout, cache) if code else None
        return plan_host(desired, observed, catalogue, _identity(), code=code)
    except BoardDataError as error:
        return unusable(host.name, str(error))
    except FirmwareError as error:
        return unusable(host.name, f"artifact store: {error}")
    except UnreachableError as error:
        return offline(host.name, str(error))
    except LinkError as error:
        return unusable(host.name, str(error))


def transport(host: Any) -> Any:
    """Return the paramiko transport of a connected pyinfra host; raises ``LinkError`` when it has none."""
    client = getattr(host.connector, "client", None)
    found = client.get_transport() if client else None
    if found is None:
        raise LinkError(f"{host.name}: not connected through SSH; fleetflash needs an SSH host")
    return found


def _identity() -> Identity:
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or "unknown"
    return Identity(
        # Sorts by time, and differs between two controllers in the same second.
        transaction=f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{os.urandom(3).hex()}",
        controller=f"{user}@{socket.gethostname()}",
        esptool=why_no_esptool(),
    )
