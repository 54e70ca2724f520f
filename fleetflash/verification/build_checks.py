"""Does the same source still build to the same firmware? What is pinned is built once more, where it was built."""

from collections.abc import Callable, Iterable, Mapping

from fleetflash.build.board_type import BoardType
from fleetflash.build.builder import Builder
from fleetflash.build.compiler import LOCAL, Compiler
from fleetflash.build.errors import BuildError
from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.errors import FirmwareError
from fleetflash.verification.check import Check, Result
from fleetflash.verification.rebuild_row import RebuildRow

#: Nothing has drifted, as far as anybody can say.
_ABSENT = (
    "{0} has compiled it, and this inventory has no {0} in its group builders: add it there, and it is asked again"
)
Find = Callable[[str], Compiler | None]


def check_builds(
    builder: Builder,
    types: Mapping[str, BoardType],
    artifacts: Iterable[Artifact],
    find: Find = lambda _: None,
) -> list[Check]:
    """Return one check an artifact; one that was not built here can't be built again, and is skipped.

    + types: name → board type, as described now; the commit is that of the artifact
    + find: returns what compiles on a host that has built some; ``None`` when the inventory has no such builder
    """
    return [_check(builder, types, artifact, find) for artifact in sorted(artifacts, key=str)]


def _check(builder: Builder, types: Mapping[str, BoardType], artifact: Artifact, find: Find) -> Check:
    row, commit = RebuildRow(artifact), str(artifact.build.get("commit", ""))
    if not commit:
        return row.unlike("not built here", Result.SKIPPED, "it was registered from a file")
    fitting = [each for each in types.values() if (each.firmware, each.chip) == (artifact.name, artifact.chip)]
    if not fitting:
        detail = f"no board type makes {artifact.name} for {artifact.chip}; describe it in board_types again"
        return row.unlike("no board type", Result.FAILED, detail)
    name = str(artifact.build.get("builder") or LOCAL)
    try:
        compiler = builder.compiler if name == LOCAL else find(name)
        if compiler is None:
            return row.unlike("not rebuilt", Result.SKIPPED, _ABSENT.format(name))
        builder = builder.on(compiler)
        for board_type in fitting:
            made = builder.rebuild(board_type.model_copy(update={"ref": commit}))
            if made.image_sha256 == artifact.image_sha256:
                break
    except (BuildError, FirmwareError) as error:
        return row.unlike("can't be built", Result.FAILED, str(error))
    return row.compared(made, "another image comes out", row.changed(made))
