"""Makes a release of a gateway that was looked at, or says why it is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleetflash.boards import Board
from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.store import Store
from fleetflash.functional.can_capture import Capture
from fleetflash.release.archive import Releases
from fleetflash.release.boot_evidence import boot_logs, judge_boots
from fleetflash.release.contents import artifact_files, boot_files, build_files, capture_files
from fleetflash.release.release import Looked, Release, ReleaseError, release_id
from fleetflash.verification.check import Check, Result


@dataclass(frozen=True)
class Sources:
    """Where the files of a release come from. ``cache``: of builds."""

    store: Store
    cache: Path
    releases: Releases


@dataclass(frozen=True)
class Candidate:
    """A gateway that shall be released. ``checks``: of it and its host, without secrets. ``artifact``: its pin."""

    host: str
    board: Board
    artifact: Artifact
    checks: Sequence[Check]
    capture: Capture | None = None


def make_release(candidate: Candidate, sources: Sources, operator: str, site: str, now: datetime) -> Release:
    """Keep a release and return it.

    Raises ``ReleaseError`` that says what is not as it should be: a release is what was seen to work.

    + site: empty: the one that the firmware was built for
    + now: aware, in UTC
    """
    board, artifact = candidate.board, candidate.artifact
    where = f"{candidate.host}/{board.name}"
    wrong = [check for check in candidate.checks if check.result in (Result.DRIFT, Result.FAILED)]
    if wrong:
        first = f"{wrong[0].name}: {wrong[0].detail or wrong[0].found}"
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ReleaseError(f"{where}: {first}{more}; 'fleetflash verify' shows all, put it right first")
    named = site or str(artifact.build.get("site") or "")
    if not named:
        raise ReleaseError(f"{where}: its firmware was built for no site; name it with --site")
    logs = boot_logs(candidate.host, board.name)
    boots = judge_boots(board, logs, artifact.esp.version if artifact.esp else artifact.version)
    if board.contract and not boots:
        raise ReleaseError(f"{where}: there is no boot log here; flash it from this computer, or take contract away")
    if boots and not boots[-1].accepted:
        raise ReleaseError(f"{where}: {boots[-1].log} is rejected: {boots[-1].summary}")
    files = {
        **artifact_files(sources.store, artifact),
        **build_files(sources.cache, artifact),
        **boot_files(board, logs),
        **capture_files(candidate.capture),
    }
    release = Release(
        id=release_id(now, candidate.host, board.name, artifact),
        at=now,
        operator=operator,
        site=named,
        host=candidate.host,
        board=board.name,
        firmware=artifact.name,
        version=artifact.version,
        chip=artifact.chip,
        artifact=artifact.id,
        image_sha256=artifact.image_sha256,
        commit=str(artifact.build.get("commit") or ""),
        configuration=str(artifact.build.get("configuration") or ""),
        idf_version=artifact.esp.idf_version if artifact.esp else "",
        checks=tuple(_looked(check) for check in candidate.checks),
        boots=tuple(boots),
    )
    return sources.releases.keep(release, files)


def _looked(check: Check) -> Looked:
    return Looked(
        name=check.name, expected=check.expected, found=check.found, result=check.result.value, detail=check.detail
    )
