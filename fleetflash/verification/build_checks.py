"""Does the same source still build to the same firmware? Every pinned image that was built here is built once more."""

from collections.abc import Iterable, Mapping

from fleetflash.build.board_type import BoardType
from fleetflash.build.builder import Builder
from fleetflash.build.errors import BuildError
from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.errors import FirmwareError
from fleetflash.verification.check import Check, Result
from fleetflash.verification.rebuild_row import RebuildRow


def check_builds(builder: Builder, types: Mapping[str, BoardType], artifacts: Iterable[Artifact]) -> list[Check]:
    """Return one check an artifact; one that was not built here can't be built again, and is skipped.

    + types: name → board type, as described now; the commit is that of the artifact
    """
    return [_check(builder, types, artifact) for artifact in sorted(artifacts, key=lambda artifact: str(artifact))]


def _check(builder: Builder, types: Mapping[str, BoardType], artifact: Artifact) -> Check:
    row, commit = RebuildRow(artifact), str(artifact.build.get("commit", ""))
    if not commit:
        return row.unlike("not built here", Result.SKIPPED, "it was registered from a file")
    fitting = [each for each in types.values() if (each.firmware, each.chip) == (artifact.name, artifact.chip)]
    if not fitting:
        detail = f"no board type makes {artifact.name} for {artifact.chip}; describe it in board_types again"
        return row.unlike("no board type", Result.FAILED, detail)
    for board_type in fitting:
        try:
            made = builder.rebuild(board_type.model_copy(update={"ref": commit}))
        except (BuildError, FirmwareError) as error:
            return row.unlike("can't be built", Result.FAILED, str(error))
        if made.image_sha256 == artifact.image_sha256:
            break
    return row.compared(made, "another image comes out", row.changed(made))
