"""A power cut may come at any moment of a transaction: what is durable by then must suffice to settle it.

Instead of cutting the power once, the test looks through a whole transaction at what a cut would leave.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleetflash.lab import durable
from fleetflash.lab.host import Host
from fleetflash.lab.tree import Directory, File, Link, Node
from tests.lab.fleet import FACTORY, WANTED, Fleet, outcome, strike, wait_outcome, wait_settled

pytestmark = pytest.mark.lab

STATE, UNITS = durable.ROOTS
UNIT = "fleetflash-settle.service"
Moment = dict[Path, Node | None]


@contextmanager
def watched(host: Host) -> Iterator[list[Moment]]:
    """All moments at which a power cut would leave something else than before."""
    seen: list[Moment] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            moment = durable.survivors(host.directory, host.root)
            if not seen or moment != seen[-1]:
                seen.append(moment)
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def at(node: Node | None, path: str) -> Node | None:
    for name in path.split("/"):
        node = node.entries.get(name) if isinstance(node, Directory) else None
    return node


def content(node: Node | None, path: str) -> bytes:
    found = at(node, path)
    return found.content if isinstance(found, File) else b""


def transaction(moment: Moment) -> str:
    """The path of the only transaction, or nothing."""
    found = at(moment[STATE], "transactions")
    names = list(found.entries) if isinstance(found, Directory) else []
    return f"transactions/{names[0]}" if names else ""


def steps(moment: Moment) -> list[str]:
    lines = content(moment[STATE], f"{transaction(moment)}/journal.jsonl").splitlines()
    return [json.loads(line)["step"] for line in lines]


def why_not_settled(moment: Moment) -> str:
    """Say what a boot after a power cut at this moment would miss."""
    state, where = moment[STATE], transaction(moment)
    if "guarded" not in steps(moment):
        return ""  # nothing has been stopped
    ended = content(state, f"{where}/outcome.json")
    if ended:
        return "" if json.loads(ended)["outcome"] in ("committed", "restored") else f"outcome {ended!r}"
    unit = content(moment[UNITS], UNIT).decode()
    link = at(moment[UNITS], f"multi-user.target.wants/{UNIT}")
    command = next((line.split() for line in unit.splitlines() if line.startswith("ExecStart=")), [])
    if command[-2:] != ["settle", where.removeprefix("transactions/")]:
        return f"the settle unit is {unit!r}"
    if not isinstance(link, Link) or not link.target.endswith(UNIT):
        return f"the settle unit is not enabled: {link}"
    agent = Path(next(word for word in command if word.endswith(".pyz")))
    if hashlib.sha256(content(state, str(agent.relative_to(STATE)))).hexdigest() != agent.stem:
        return "the agent is not whole"
    for board in json.loads(content(state, f"{where}/transaction.json"))["boards"]:
        sha256 = board["way_back"]["sha256"]
        if hashlib.sha256(content(state, f"images/{sha256}.bin")).hexdigest() != sha256:
            return "the way back is not whole"
    return ""


def kill_agent(host: Host) -> None:
    strike(host, "bmcu", "program", 15000, lambda: host.run("sudo systemctl kill -s KILL fleetflash.service"))


@pytest.mark.parametrize(
    ("disturb", "came", "runs", "passed"),
    [
        (lambda host: None, "committed", WANTED, {"guarded", "stopping", "writing", "verified"}),
        (kill_agent, "restored", FACTORY, {"guarded", "stopping", "writing", "settling", "restoring"}),
    ],
    ids=["undisturbed", "agent killed"],
)
def test_at_every_moment_what_is_durable_suffices_to_settle(
    fleet: Fleet, disturb: Callable[[Host], None], came: str, runs: str, passed: set[str]
) -> None:
    host = fleet.lab.host("printer-7")
    fleet.reset(host)
    with watched(host) as moments:
        run = fleet.start_pyinfra(fleet.write_inventory(host.name))
        disturb(host)
        fleet.finish(run)
        wait_settled(host)
        wait_outcome(host)
    assert outcome(host)["outcome"] == came
    assert passed <= {steps(moment)[-1] for moment in moments if steps(moment)}
    missing = {why_not_settled(moment): steps(moment) for moment in moments}
    assert missing.keys() == {""}, missing
    last = moments[-1]
    assert json.loads(content(last[STATE], "boards/bmcu.json"))["version"] == runs
    assert at(last[UNITS], UNIT) is None
