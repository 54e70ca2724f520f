"""The boot logs of a gateway's last flash from here, judged once more by its contract."""

import io
import re
from pathlib import Path

from fleetflash.acceptance.contract_file import read_contract
from fleetflash.acceptance.errors import AcceptanceError
from fleetflash.acceptance.log_file import LogFile, judge_log
from fleetflash.agent.acceptance.judge import EquipmentError, Judge
from fleetflash.boards import Board
from fleetflash.release.release import Boot, ReleaseError
from fleetflash.report import monitor_logs

#: What ESP-IDF's app_init or cpu_start logs at boot (ESP-IDF guide, "Application Startup Flow").
_VERSION = re.compile(rb"App version:\s+(\S+)")


def boot_logs(host: str, board: str) -> dict[str, bytes]:
    """Return name → log of the last transaction that has one of this board, in the order of its attempts.

    Raises ``ReleaseError``.
    """
    root = monitor_logs.directory(host, "")
    pattern = re.compile(rf"monitor-{re.escape(board)}-(\d+)\.log")
    try:
        found = sorted(path for path in root.glob("*/monitor-*.log") if pattern.fullmatch(path.name))
        if not found:
            return {}
        last = [path for path in found if path.parent == found[-1].parent]
        last.sort(key=lambda path: int(path.stem.rpartition("-")[2]))
        return {path.name: path.read_bytes() for path in last}
    except OSError as error:
        raise ReleaseError(f"{error.filename or root}: {error.strerror}; correct its rights") from None


def judge_boots(board: Board, logs: dict[str, bytes], version: str) -> list[Boot]:
    """Judge each log of this version; raises ``ReleaseError`` when that can't be done, or when the last is of another.

    + version: what the released application says of itself, which its log shows where ESP-IDF logs it
    """
    if not board.contract:
        return []
    contract = Path(board.contract).expanduser()
    said = {name: _version(content) for name, content in logs.items()}
    boots = []
    for name, content in logs.items():
        if said[name] not in ("", version):
            if name != list(logs)[-1]:
                continue  # an update that was taken back says nothing of what runs since
            raise ReleaseError(f"{name} is of version {said[name]}, expected {version}; flash it from here once more")
        try:
            judge = Judge(read_contract(contract), board.equipment)
            verdict = judge_log(judge, LogFile(io.BytesIO(content), name))
        except (AcceptanceError, EquipmentError) as error:
            raise ReleaseError(f"{board.name}: {error}") from None
        boots.append(Boot(log=name, contract=contract.name, accepted=verdict.accepted, summary=verdict.summary()))
    return boots


def _version(log: bytes) -> str:
    """Return the version that an application said last; empty when none did."""
    said = _VERSION.findall(log)
    return str(said[-1].decode(errors="replace")) if said else ""
