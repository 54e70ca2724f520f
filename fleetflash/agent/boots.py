"""The boots of a transaction's ESP boards, kept.

Each leaves ``monitor-<board>-<number>.log`` in the transaction's directory, readable for root alone, since firmware may
print what it should not; the journal and the outcome say which boot it was and how it was judged.
"""

from typing import Any, Dict, List

from fleetflash.agent import disk
from fleetflash.agent.boot_watch import Boot
from fleetflash.agent.record import Record
from fleetflash.agent.schema import to_json

_MONITOR = "monitor-{board}-{number}.log"


class Boots:
    """Keeps the boots of one board of a transaction."""

    def __init__(self, record: Record, board: str):
        self._record = record
        self._board = board

    def keep(self, boot: Boot, attempt: int, of: int, reason: str) -> None:
        """Write a boot down. ``reason``: why it is rejected; empty when it is not.

        A log that can't be written is no reason to fail.
        """
        directory = self._record.store.transaction_directory(self._record.transaction.id)
        pattern = _MONITOR.format(board=self._board, number="*")
        name = _MONITOR.format(board=self._board, number=1 + len(list(directory.glob(pattern))))
        try:
            disk.write_file(directory / name, boot.log, mode=0o600)
        except OSError as error:
            name = ""
            self._record.log("monitor-lost", board=self._board, error=str(error))
        said = f"accepted by {boot.verdict.contract}" if boot.verdict else "nothing wrong was heard"
        if boot.verdict and not boot.verdict.accepted:
            said = f"it runs, though {boot.verdict.contract} would reject it: {boot.verdict.summary()}"
        self._record.log(
            "booted",
            board=self._board,
            said=f"rejected: {reason}" if reason else said,
            attempt=attempt,
            of=of,
            log=name,
            accepted=not reason,
            reason=reason,
            verdict=to_json(boot.verdict) if boot.verdict else None,
        )


def hardware(boots: List[Dict[str, Any]]) -> str:
    """Say of a board that was taken back that its contract rejects what had been accepted, too; empty otherwise."""
    verdict = boots[-1]["verdict"] if boots else None
    if not verdict or verdict["accepted"]:
        return ""
    broken = next(ruling["rule"] for ruling in verdict["rulings"] if not ruling["met"])
    return (
        f"the firmware it was taken back to runs, but {verdict['contract']} does not accept that either ({broken!r}): "
        "look at the board and what is connected to it"
    )


def remark(boots: List[Dict[str, Any]]) -> str:
    """Say of a board's boots (``history.boots``) that it was not accepted at once; empty otherwise."""
    if not boots or boots[-1]["attempt"] == 1 or not boots[-1]["accepted"]:
        return ""
    last = boots[-1]
    return f"its boot was accepted at attempt {last['attempt']} of {last['of']}; at first: {boots[0]['reason']}"
