"""One start of an ESP board, heard out: its log, what its application said of itself, and how it was judged."""

import time
from dataclasses import dataclass
from typing import Callable, Dict, Optional

from fleetflash.agent.acceptance.contract import Contract
from fleetflash.agent.acceptance.judge import AFTERMATH, Judge
from fleetflash.agent.acceptance.lines import LineCutter
from fleetflash.agent.acceptance.monitor_log import MonitorLog
from fleetflash.agent.acceptance.verdict import Verdict
from fleetflash.agent.port import Port
from fleetflash.agent.protocols import esp_boot_log
from fleetflash.agent.protocols.esp_boot_log import BootLog

_PIECE = 4096
#: Seconds that one look at the port takes: how exactly a line's time is known.
_LOOK = 0.02
#: So much of a log is searched for what the application says of itself, in bytes.
_MOST_BYTES = 256 * 1024


@dataclass(frozen=True)
class Boot:
    """One start: what the application said of itself, the file ``monitor.log``, and the verdict if it was judged."""

    found: BootLog
    log: bytes
    verdict: Optional[Verdict] = None


def listen(port: Port, title: str, contract: Optional[Contract], equipment: Dict[str, str]) -> Boot:
    """Reset a chip and hear it out; raises ``PortError``."""
    log = MonitorLog(title)
    if contract is None:
        began = time.monotonic()
        found = esp_boot_log.watch(port, heard=log.hear)
        return Boot(found, log.content(time.monotonic() - began))
    judge, cutter, head, seconds = Judge(contract, equipment), LineCutter(), b"", 0.0
    most = contract.longest + AFTERMATH
    esp_boot_log.reset(port)
    began = time.monotonic()
    while seconds < most and not judge.done(seconds):
        data = port.read(_PIECE, _LOOK)
        seconds = time.monotonic() - began
        log.hear(seconds, data)
        head += data[: _MOST_BYTES - len(head)]
        for line in cutter.cut(data, seconds):
            judge.hear(line)
    for line in cutter.end():
        judge.hear(line)
    return Boot(esp_boot_log.read(head), log.content(seconds), judge.verdict(seconds))


#: Keeps a boot: its attempt, of how many, and why it is rejected (empty when it is not).
Keep = Callable[[Boot, int, int, str], None]
