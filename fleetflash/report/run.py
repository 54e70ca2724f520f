"""What a whole pyinfra run has to say at its end: one table over all hosts, and an exit code that a script can trust.

pyinfra's own end hooks don't come when every host has failed, and its exit code doesn't tell a host that was refused
untouched from one that failed. So the table and the code are given when the interpreter ends.
"""

import atexit
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fleetflash.agent.schema import Transaction
from fleetflash.incident.incident import Incident
from fleetflash.incident.redaction import Redactor, of_run
from fleetflash.plan import HostPlan, offline
from fleetflash.report.incidents import tell_incidents
from fleetflash.report.rows import outcome_rows, plan_rows
from fleetflash.report.table import Row, print_outcomes, print_plan

OK, FAILED, REFUSED, DEFERRED = 0, 1, 3, 4

_FAILED_WORDS = {"failed", "restored", "needs-attention"}
_REFUSED_WORDS = {"refuse", "refused", "offline"}
_DEFERRED_WORDS = {"defer", "deferred", "hold", "held", "waiting"}


def exit_code(rows: Iterable[Row]) -> int:
    """Return 1 when anything failed, else 3 when anything was refused or offline, else 4 when deferred, else 0."""
    words = {row.outcome for row in rows}
    for found, code in ((_FAILED_WORDS, FAILED), (_REFUSED_WORDS, REFUSED), (_DEFERRED_WORDS, DEFERRED)):
        if words & found:
            return code
    return OK


@dataclass
class RunReport:
    """Collects every host's plan and outcome while pyinfra runs."""

    state: Any
    plans: dict[str, HostPlan] = field(default_factory=dict)
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)
    running: dict[str, Transaction] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    waiting: dict[str, list[str]] = field(default_factory=dict)
    incidents: list[Incident] = field(default_factory=list)
    redactor: Redactor = field(default_factory=Redactor)

    def add_plan(self, plan: HostPlan) -> None:
        self.plans[plan.host] = plan

    def add_waiting(self, host: str, what: str) -> None:
        """Record what else of a host has to wait until its printer is idle: the run is not at its end."""
        texts = self.waiting.setdefault(host, [])
        if what not in texts:
            texts.append(what)

    def add_incident(self, incident: Incident) -> None:
        """Record that a failure's evidence was kept."""
        self.incidents.append(incident)

    def add_transaction(self, plan: HostPlan) -> None:
        """Record that this host's transaction has been started: from here on the host needs nobody."""
        if plan.transaction is not None:
            self.running[plan.host] = plan.transaction

    def add_outcome(self, plan: HostPlan, outcome: dict[str, Any] | None) -> None:
        """Record that this host's part is over; ``outcome`` is ``None`` when no transaction was needed."""
        self.plans[plan.host] = plan
        self.done.add(plan.host)
        self.running.pop(plan.host, None)
        if outcome is not None:
            self.outcomes[plan.host] = outcome

    def rows(self) -> list[Row]:
        """Every board of every host in the run's scope; hosts that were never reached are offline."""
        rows: list[Row] = []
        for host in self.state.inventory:
            if not self.state.is_host_in_limit(host):
                continue
            plan = self.plans.get(host.name) or offline(host.name, "SSH did not connect; is the host up?")
            if self.done:
                rows += outcome_rows(plan, self.outcomes.get(host.name))
            else:
                rows += plan_rows(plan)
        return rows

    def results(self, hosts: Iterable[str]) -> dict[str, list[str]]:
        """Return, for each of ``hosts``, what its boards came to so far."""
        words: dict[str, list[str]] = {host: [] for host in hosts}
        for row in self.rows():
            if row.host in words:
                words[row.host].append(row.outcome)
        return words

    def finish(self) -> None:
        """Print the table and end the process with the run's exit code."""
        redactor = self.redactor
        rows = [redactor.row(row) for row in self.rows()]
        print(file=sys.stderr)
        (print_outcomes if self.done else print_plan)(rows, sys.stderr)
        for plan in self.plans.values():
            for note in plan.notes:
                print(redactor.text(f"{plan.host}/{note}"), file=sys.stderr)
        for host, texts in self.waiting.items():
            for text in texts:
                print(redactor.text(f"{host}: {text}"), file=sys.stderr)
        if self.incidents:
            tell_incidents(self.incidents, self._attended())
        code = exit_code(rows) or (DEFERRED if self.waiting else OK)
        known = {row.host for row in rows if row.outcome in _REFUSED_WORDS}
        others = {host.name for host in self.state.failed_hosts} - known
        if others:
            code = FAILED
        if code and self.done:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _attended(self) -> set[str]:
        """Return the hosts at which somebody stands, by their data."""
        asked = {host.name: str(host.data.get("attended", False)).lower() for host in self.state.inventory}
        return {name for name, word in asked.items() if word in ("true", "yes")}

    def interrupt(self, number: int, frame: object) -> None:
        """End the process on SIGINT or SIGTERM, and say what goes on without it; pyinfra itself would exit with 0."""
        print(f"\n{signal.Signals(number).name}: this controller stops.", file=sys.stderr)
        for host, transaction in self.running.items():
            here = [board.name for board in transaction.boards if board.placement == "controller"]
            fate = f", but {', '.join(here)} may be restored: it was written from here" if here else ""
            print(f"  {host}: transaction {transaction.id} goes on without it{fate}", file=sys.stderr)
        untouched = [host for host in self.plans if host not in self.running and host not in self.done]
        if untouched:
            print(f"  not begun: {', '.join(untouched)}", file=sys.stderr)
        if self.running:
            print("Run again to see how it ended.", file=sys.stderr)
        sys.stderr.flush()
        os._exit(128 + number)


_reports: dict[int, RunReport] = {}


def current(state: Any) -> RunReport:
    """Return this pyinfra run's report; the first call arranges for its end."""
    if id(state) not in _reports:
        report = RunReport(state, redactor=of_run(state))
        _reports[id(state)] = report
        atexit.register(report.finish)
        signal.signal(signal.SIGINT, report.interrupt)
        signal.signal(signal.SIGTERM, report.interrupt)
    return _reports[id(state)]
