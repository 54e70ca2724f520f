"""One cell of the fault matrix: what strikes, where, and what must come of it, written down before it runs.

``expected`` is what must come of each board of the host:

- ``committed``: the board runs the new firmware,
- ``restored``: it was written and runs the former one again,
- ``untouched``: nothing was erased, it runs the former one,
- ``needs-attention``: it was written and there is no way back; only where the inventory accepts that (bench ``lost``),
  or where nothing resets the chip,
- ``read``: a backup of it was taken, and it runs what it ran.

Whatever comes, Klipper must be back and ready, the flash must hold exactly one of the two images, and nothing of the
guard may be left.
"""

from dataclasses import dataclass

COMMITTED, RESTORED, UNTOUCHED, ATTENTION = "committed", "restored", "untouched", "needs-attention"
READ = "read"

#: What is struck: a flash; a rollback, which holds the boards that it commits and no other; a backup; the restore of a
#: board whose flash has failed; the settling of a flash whose agent and guard have died in the middle of a write.
FLASH, ROLLBACK, BACKUP, RESTORE, RECOVERY = "flash", "rollback", "backup", "restore", "recovery"

#: Why a flash fails and its restore begins: its verification says that the flash differs; the new firmware says that it
#: is another version; it says nothing.
MISMATCH, IMPOSTURE, SILENCE = "a mismatch", "another version", "silence"

#: Printers with one board; two boards and a policy; one board behind a link of 80 ms; no image to go back to.
PLAIN, EXACT, COMPATIBLE, FAR, LOST = "plain", "exact", "compatible", "far", "lost"


@dataclass(frozen=True)
class Cell:
    """One fault at one point of the host's last board.

    ``count``: how often in a row. ``placement``: where the protocol runs. ``new_only``: only the new firmware has it.
    ``expected``: one outcome for each board of the bench. ``status``: what a ``wrong_status`` says. ``read_back``:
    nobody has an image of what the board runs. ``hands``: afterwards a person taps RESET, where no line reaches it.
    ``job``: what is struck. ``failure``: what the transaction has failed of whose restore is struck.
    """

    fault: str
    command: str
    byte: int
    expected: tuple[str, ...]
    count: int = 1
    placement: str = "host"
    bench: str = PLAIN
    new_only: bool = False
    status: int = 0xFE
    read_back: bool = False
    hands: bool = False
    job: str = FLASH
    failure: str = ""

    @property
    def name(self) -> str:
        times = f" x{self.count}" if self.count > 1 else ""
        times += f" {self.status:02x}" if self.status != 0xFE else ""
        where = " from the controller" if self.placement == "controller" else ""
        what = " in the new firmware" if self.new_only else " with unknown firmware" if self.read_back else ""
        job = "" if self.job == FLASH else f"{self.job}{' after ' + self.failure if self.failure else ''}, "
        return f"{self.bench}: {job}{self.fault}{times} at {self.command}@{self.byte}{what}{where}"
