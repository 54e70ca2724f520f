"""What shall be: the boards of a Klipper host run their pinned firmware."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Generator
from typing import Any

import gevent
from pyinfra import host, logger
from pyinfra.api import FunctionCommand, operation
from pyinfra.api.exceptions import ConnectError

from fleetflash.agent.schema import Bundle, Transaction
from fleetflash.boards import GROUPS, read_duration
from fleetflash.build.bundle import make_bundle
from fleetflash.build.errors import BuildError
from fleetflash.facts.decision import decide, decide_backup, decide_rollback, transport
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.store import Store
from fleetflash.link import hold
from fleetflash.link.errors import LinkError, PythonError, SudoError
from fleetflash.link.session import AgentSession
from fleetflash.link.transaction import TransactionClient, TransactionRefusedError
from fleetflash.operations.backup_copies import copy_backups
from fleetflash.operations.turn import turn
from fleetflash.plan import Action, HostPlan, hold_back
from fleetflash.report import monitor_logs
from fleetflash.report import run as report
from fleetflash.report.progress import Progress, say
from fleetflash.rollout import canary

#: Looks at a host and makes its plan.
Decide = Callable[[Any], HostPlan]
#: A lost link is tried again for this long, in seconds: the host may be rebooting.
RECONNECT_SECONDS = 120.0
#: A printer that is waited for is asked this often whether it is idle, in seconds.
IDLE_INTERVAL = 15.0


@operation()
def firmware(canaries: bool = False, back: bool = False) -> Generator[FunctionCommand, None, None]:
    """
    Bring all boards of a Klipper host to their pinned firmware, in one transaction.

    + canaries: only the hosts that go first (``canary`` in the data says how many); without, all others
    + back: bring them back instead, to where ``to``, ``rollback_version`` or ``--data firmware_version`` says, and hold
      them there

    Reads ``boards``, ``firmware``, ``firmware_version``, ``policy``, ``attended``, ``klipper_service``,
    ``klippy_socket``, ``klipper_version``, ``klipper_repository``, ``klipper_path``, ``canary``, ``max_failed_percent``
    and ``wait_idle`` from the host's data. Changes nothing when every board already runs what it must.

    **Example:**

    .. code:: python

        mcu.firmware(name="Boards run their pinned firmware")
    """
    first = _canaries(host)
    if canaries != (host.name in first):
        host.noop("goes first, as a canary" if host.name in first else "is no canary")
        return
    look: Decide = decide_rollback if back else decide
    plan = look(host)
    run = report.current(host.state)
    if first and not canaries and host.state.is_executing:
        reason = canary.verdict(run.results(first), canary.read_percent(host.data.get("max_failed_percent", 0)))
        plan = hold_back(plan, reason) if reason else plan
    run.add_plan(plan)
    Progress(host).plan(plan)
    patience = read_duration(host.data.get("wait_idle", 0))
    waiting = bool(patience and plan.actions(Action.DEFER))
    acts = plan.actions(Action.FLASH, Action.REFUSE, Action.OFFLINE) or plan.holds or plan.lifts
    if plan.unreported is None and not waiting and not acts:
        if host.state.is_executing:
            run.add_outcome(plan, None)
        host.noop("every board already runs its pinned firmware, or its turn is later")
        return
    yield FunctionCommand(reconcile, (plan, patience, look), {})


@operation()
def backed_up() -> Generator[FunctionCommand, None, None]:
    """
    Take a backup of every board of a Klipper host that can be read, now, in one transaction that writes none.

    Klipper is stopped once and started again. Reads what ``firmware`` reads from the host's data, and
    ``backup_reason``, for the record. A board that can't be read is told of, and no failure.

    **Example:**

    .. code:: python

        mcu.backed_up(name="What the boards run is kept")
    """
    plan = decide_backup(host)
    report.current(host.state).add_plan(plan)
    Progress(host).plan(plan)
    patience = read_duration(host.data.get("wait_idle", 0))
    waiting = bool(patience and plan.actions(Action.DEFER))
    if plan.unreported is None and not waiting and not plan.actions(Action.BACK_UP, Action.REFUSE, Action.OFFLINE):
        if host.state.is_executing:
            report.current(host.state).add_outcome(plan, None)
        host.noop("no board of this host can be read, or not now")
        return
    yield FunctionCommand(reconcile, (plan, patience, decide_backup), {})


def _canaries(target: Any) -> frozenset[str]:
    """Return the names of the hosts that go first in this run."""
    state = target.state
    scope = [h.name for h in state.inventory if set(GROUPS) & set(h.groups) and state.is_host_in_limit(h)]
    return canary.choose(scope, canary.read_count(target.data.get("canary", 0)))


def reconcile(state: Any, host: Any, plan: HostPlan, patience: float, decide: Decide = decide) -> bool:
    """Carry a plan out; false, which fails the host, when a board was refused or not brought to its state.

    ``patience``: how long a printer that prints is waited for, in seconds. ``decide``: makes the plan anew.
    """
    with turn(host) as waited:
        return _reconcile(state, host, decide(host) if waited else plan, patience, decide)


def _record(*arguments: Any, **options: Any) -> None:
    from fleetflash.operations.incident import record  # only where there was a transaction

    record(*arguments, **options)


def _reconcile(state: Any, host: Any, plan: HostPlan, patience: float, decide: Decide) -> bool:
    progress = Progress(host)
    if plan.unreported is not None:
        earlier = _follow_to_end(host, plan.unreported.id, progress, plan)
        progress.outcome(f"transaction {plan.unreported.id} of an earlier run", earlier)
        if earlier["outcome"] != "refused":
            _record(host, plan.unreported.id, earlier, events=progress.seen)
        progress.seen = []
        if earlier["outcome"] == "refused":
            plan = hold_back(plan, str(earlier["detail"]))
            report.current(state).add_outcome(plan, None)
            return True
        plan = decide(host)
    deadline = time.monotonic() + patience
    while plan.actions(Action.DEFER) and time.monotonic() < deadline:
        progress.waiting(plan, deadline - time.monotonic())
        gevent.sleep(min(IDLE_INTERVAL, max(0.0, deadline - time.monotonic())))
        plan = decide(host)
    outcome = None
    if plan.transaction is not None:
        try:
            outcome = _run(host, plan, progress)
        except Exception as error:  # whatever it is, this host's outcome must appear in the table
            logger.debug(f"{host.print_prefix}{error!r}", exc_info=True)
            detail = f"{type(error).__name__}: {error}; run again to see the outcome"
            outcome = {"outcome": "unknown", "detail": detail, "boards": {}}
    report.current(state).add_outcome(plan, outcome)
    if outcome is not None and plan.transaction is not None:
        _record(host, plan.transaction.id, outcome, plan, progress.seen)
    for board in plan.actions(Action.REFUSE, Action.OFFLINE):
        logger.error(f"{host.print_prefix}{board.name}: {board.reason}")
    done = outcome is None or outcome.get("outcome") == "committed"
    if done:
        done = _hold(host, plan)
    return done and not plan.actions(Action.REFUSE, Action.OFFLINE)


def _hold(host: Any, plan: HostPlan) -> bool:
    """Put the holds that no transaction has put, and lift those that the inventory has caught up with."""
    try:
        if plan.holds and plan.transaction is None:
            hold.put(transport(host), host.name, plan.holds)
            say(host, f"{', '.join(plan.holds)}: there already, and held there from now on")
        if plan.lifts:
            for name, found in hold.lift(transport(host), host.name, plan.lifts).items():
                say(host, f"{name}: the inventory pins {found.version}, where it was held: the hold is lifted")
    except LinkError as error:
        logger.error(f"{host.print_prefix}{error}")
        return False
    return True


def _run(host: Any, plan: HostPlan, progress: Progress) -> dict[str, Any]:
    """Start the transaction and follow it to its end, over as many connections as it takes."""
    transaction = plan.transaction
    assert transaction is not None
    store = Store()

    bundled: dict[str, bytes] = {}

    def read_image(sha256: str) -> bytes:
        return bundled[sha256] if sha256 in bundled else store.read_image(plan.artifacts[sha256])

    try:
        transaction = _with_commits(transaction, plan, bundled)
        with AgentSession(transport(host), host.name, ["run"], sudo=True) as session:
            client = TransactionClient(session, host.name, progress.event)
            client.start(transaction, read_image)
            report.current(host.state).add_transaction(plan)
            outcome = client.follow(transaction, read_image)
            _keep_logs(host, transaction.id, client)
            problem = copy_backups(session, host, plan)
        if problem and transaction.backup_only:
            outcome = {**outcome, "outcome": "failed", "detail": problem}
    except (TransactionRefusedError, SudoError, PythonError, FirmwareError, BuildError) as error:
        logger.error(f"{host.print_prefix}{error}")
        return {"outcome": "refused", "detail": str(error), "boards": {}}
    except LinkError as error:
        # Whether it had begun is for the host to say.
        logger.warning(f"{host.print_prefix}{error}; a transaction goes on without this controller; reconnecting")
        outcome = _follow_to_end(host, transaction.id, progress, plan)
    progress.outcome("transaction", outcome)
    return outcome


def _with_commits(transaction: Transaction, plan: HostPlan, bundled: dict[str, bytes]) -> Transaction:
    """Return the transaction with the commits that the host lacks, which go into ``bundled`` by their sha256."""
    code, checkout = transaction.host_code, next((board.code for board in plan.boards if board.code), None)
    if code is None or checkout is None or checkout.present:
        return transaction
    data, tag = make_bundle(checkout.mirror, code.wanted, code.former)
    bundle = Bundle(hashlib.sha256(data).hexdigest(), len(data), tag)
    bundled[bundle.sha256] = data
    return dataclasses.replace(transaction, host_code=dataclasses.replace(code, bundle=bundle))


def _follow_to_end(host: Any, transaction_id: str, progress: Progress, plan: HostPlan) -> dict[str, Any]:
    """Reconnect until the host tells how a transaction ended, or that it never began there.

    ``plan``: of which boards backups are copied then.
    """
    deadline = time.monotonic() + RECONNECT_SECONDS
    problem = ""
    while time.monotonic() < deadline:
        try:
            if not _is_connected(host):
                host.disconnect()
                host.connect(raise_exceptions=True, show_errors=False)
            with AgentSession(transport(host), host.name, ["run"], sudo=True) as session:
                client = TransactionClient(session, host.name, progress.event)
                client.join(transaction_id)
                outcome = client.follow(None, lambda sha256: b"")
                _keep_logs(host, transaction_id, client)
                copy_backups(session, host, plan)
                return outcome
        except (TransactionRefusedError, SudoError, PythonError) as error:
            return {"outcome": "refused", "detail": str(error), "boards": {}}
        except (LinkError, ConnectError) as error:
            problem = str(error)
            gevent.sleep(2)
    detail = f"the link was lost for {RECONNECT_SECONDS:g} s ({problem}); run again to see the outcome"
    return {"outcome": "unknown", "detail": detail, "boards": {}}


def _keep_logs(host: Any, transaction_id: str, client: TransactionClient) -> None:
    """Keep what gateways said when they booted; that it can't be kept changes nothing of the outcome."""
    try:
        place = monitor_logs.keep(host.name, transaction_id, client.monitor_logs)
    except OSError as error:
        logger.warning(f"{host.print_prefix}the boot logs can't be kept here: {error}; the host has them")
        return
    if place is not None:
        logger.info(f"{host.print_prefix}boot logs are in {place}")


def _is_connected(host: Any) -> bool:
    transport = host.connector.client.get_transport() if host.connector.client else None
    return bool(transport and transport.is_active())
