"""What must be so of a host once a cell of the fault matrix is over, whatever the cell was."""

from dataclasses import dataclass

from fleetflash.lab.host import Host
from tests.lab.cell import ATTENTION, BACKUP, COMMITTED, LOST, READ, RESTORED, ROLLBACK, UNTOUCHED, Cell
from tests.lab.fleet import Fleet, flash_holds, journal, mcu_version, outcome, wait_outcome, wait_settled

#: No run may take longer than this, in seconds.
PATIENCE = 240.0
#: A settling waits for a board that is gone, in seconds, as often as it tries it: half a minute, four times.
SETTLED = 200.0
RESULTS = {"flashed": COMMITTED, "restored": RESTORED, "needs-attention": ATTENTION, "backed-up": READ}
WORDS = (
    (READ, "committed"),
    (ATTENTION, "needs-attention"),
    (RESTORED, "restored"),
    (UNTOUCHED, "failed"),
    (COMMITTED, "committed"),
)


@dataclass(frozen=True)
class Before:
    """What a host ran before, and what it shall run."""

    former: dict[str, str]
    wanted: str


def judge(fleet: Fleet, host: Host, cell: Cell, before: Before) -> str:
    """Compare a host at rest with what was written down."""
    wait_settled(host, SETTLED)
    wait_outcome(host, SETTLED)
    came = outcome(host)
    found = {name: RESULTS.get(board["result"], UNTOUCHED) for name, board in came["boards"].items()}
    expected = {board.spec.name: result for board, result in zip(host.boards, cell.expected, strict=True)}
    if found != expected:
        return f"expected {expected}, came {found}: {came['outcome']}: {came['detail']}"
    word = next(word for result, word in WORDS if result in cell.expected)
    if came["outcome"] not in (word, "refused" if word == "failed" else word):
        return f"boards {found}, but the outcome is {came['outcome']}: {came['detail']}"
    if not 0 <= came["downtime"] < PATIENCE:
        return f"Klipper was down {came['downtime']} s"
    problem = _why_attention(host) if ATTENTION in cell.expected else _why_not_well(fleet, host, expected, before)
    if problem:
        return problem
    left = host.run(
        "ls /run/fleetflash/busy /var/lib/fleetflash/reserve /etc/systemd/system/*fleetflash* "
        "/run/systemd/system/klipper.service.d"
    ).stdout
    if left:
        return f"left behind: {left}"
    if problem := _why_not_held(
        host, {name for name in expected if cell.job == ROLLBACK and expected[name] == COMMITTED}
    ):
        return problem
    if cell.bench != LOST and cell.job != BACKUP and host.run("ls /var/lib/fleetflash/images/*.bin").returncode:
        return "the way back is gone"
    return ""


def _why_not_well(fleet: Fleet, host: Host, expected: dict[str, str], before: Before) -> str:
    try:
        host.wait_klippy("ready", 60.0)
    except Exception as error:
        return f"Klipper is not back: {error}"
    for board in host.boards:
        name = board.spec.name
        version = before.wanted if expected[name] == COMMITTED else before.former[name]
        if mcu_version(host, board.spec.mcu) != version:
            return f"{name} runs {mcu_version(host, board.spec.mcu)}, expected {version}"
        if not flash_holds(host, name, fleet.image(host, version), fleet.offset(host)):
            return f"the flash of {name} does not hold {version}"
    return ""


def why_not_the_restore(host: Host, at: float) -> str:
    """A cell must have struck what it is about."""
    board, steps = host.boards[-1].spec.name, journal(host)
    moments = {step["step"]: step["monotonic"] for step in reversed(steps) if step.get("board") == board}
    if moments["restoring"] <= at <= moments["restored"]:
        return ""
    return f"its restore took from {moments['restoring']} to {moments['restored']}, and was struck at {at}"


def _why_not_held(host: Host, expected: set[str]) -> str:
    """A rollback holds what it has committed; the next cell's run is no rollback, and is let go."""
    held = {path.removesuffix(".json") for path in host.run("ls /var/lib/fleetflash/holds").stdout.split()}
    host.run("sudo rm -rf /var/lib/fleetflash/holds", check=True)
    return "" if held == expected else f"{held} are held, expected {expected}"


def _why_attention(host: Host) -> str:
    """A board that has no way back is latched, and its printer's service runs for all that."""
    if host.run("systemctl is-active klipper").stdout.strip() != "active":
        return "klipper.service was left stopped"
    if host.run(f"test -e /var/lib/fleetflash/attention/{host.boards[-1].spec.name}.json").returncode:
        return "needs-attention is not latched"
    return ""
