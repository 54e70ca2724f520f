"""What a snapshot says of Klipper's own code on the host. Needs no root, and changes nothing."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Optional

from fleetflash.agent import klippy, systemd
from fleetflash.agent.account import Account, AccountError
from fleetflash.agent.checkout import Checkout, CheckoutError, place
from fleetflash.agent.observed import CheckoutFacts, CheckoutProbe, ServiceFacts

_PROGRAM = re.compile(r"path=(\S+) ;")


def look(probe: CheckoutProbe, service: ServiceFacts, status: Optional[klippy.Status]) -> CheckoutFacts:
    """Look at a service's checkout; what keeps it from being looked at is an answer, too.

    git itself refuses a repository of another user (git-config(1), ``safe.directory``), which nothing here overrides.
    """
    try:
        account = Account(service.user)
    except AccountError as error:
        return CheckoutFacts(probe.path, service.user, error=str(error))
    path = place(probe.path, account)
    found = CheckoutFacts(
        path=str(path),
        user=account.entry.pw_name,
        running=status.version if status else "",
        python=(status.python if status else "") or _program(service.unit),
    )
    # root looks as the user, everybody else as themselves.
    checkout = Checkout(path, account if os.geteuid() == 0 else Account.own())
    try:
        state = checkout.state()
        present = checkout.has(probe.commit)
    except (CheckoutError, OSError) as error:
        foreign = os.geteuid() not in (0, account.entry.pw_uid)
        hint = f"; it is {found.user}'s: log in as {found.user} or as root" if foreign else ""
        return dataclasses.replace(found, error=f"{error}{hint}")
    where = Path(status.path) if status and status.path else path
    other = "" if where.resolve() == path.resolve() else f"{path} is not what klippy runs, which is {where}"
    return dataclasses.replace(
        found,
        commit=state.commit,
        version=state.version,
        branch=state.branch,
        remote=state.remote,
        dirty=state.dirty,
        present=present,
        error=f"{other}; correct klipper_path in the inventory" if other else "",
    )


def _program(unit: str) -> str:
    """Return the program that a unit starts, which for klippy is its interpreter; empty when nobody can say.

    Source: systemctl(1), ``show``: ``ExecStart={ path=/usr/bin/python3 ; argv[]=… }``.
    """
    try:
        found = _PROGRAM.search(systemd.show(unit, ["ExecStart"]).get("ExecStart", "")) if unit else None
    except systemd.SystemdError:
        return ""
    return found.group(1) if found else ""
