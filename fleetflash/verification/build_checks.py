"""Does the same source still build to the same firmware? Every pinned image that was built here is built once more."""

from collections.abc import Iterable, Mapping

from fleetflash.build.board_type import BoardType
from fleetflash.build.builder import Builder
from fleetflash.build.errors import BuildError
from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.errors import FirmwareError
from fleetflash.verification.check import Check, Result, compared

NAME = "rebuild"


def check_builds(builder: Builder, types: Mapping[str, BoardType], artifacts: Iterable[Artifact]) -> list[Check]:
    """Return one check an artifact; one that was not built here can't be built again, and is skipped.

    + types: name → board type, as described now; the commit is that of the artifact
    """
    return [_check(builder, types, artifact) for artifact in sorted(artifacts, key=lambda artifact: str(artifact))]


def _check(builder: Builder, types: Mapping[str, BoardType], artifact: Artifact) -> Check:
    expected = artifact.image_sha256[:12]
    what = f"{artifact.name} {artifact.version}"
    commit = str(artifact.build.get("commit", ""))

    def unlike(found: str, result: Result, detail: str) -> Check:
        return Check("-", what, NAME, expected, found, result, detail)

    if not commit:
        return unlike("not built here", Result.SKIPPED, "it was registered from a file")
    if artifact.esp is not None:
        return unlike("not rebuilt", Result.SKIPPED, "gateways' builds are not repeated by this check")
    fitting = [each for each in types.values() if (each.firmware, each.chip) == (artifact.name, artifact.chip)]
    if not fitting:
        detail = f"no board type makes {artifact.name} for {artifact.chip}; describe it in board_types again"
        return unlike("no board type", Result.FAILED, detail)
    found = ""
    for board_type in fitting:
        try:
            made = builder.rebuild(board_type.model_copy(update={"ref": commit}))
        except (BuildError, FirmwareError) as error:
            return unlike("can't be built", Result.FAILED, str(error))
        found = made.image_sha256[:12]
        if made.image_sha256 == artifact.image_sha256:
            break
    differ = [key for key in ("configuration", "overlay", "toolchain_id") if made.build[key] != artifact.build.get(key)]
    because = (
        f"since its build, {' and '.join(differ)} changed"
        if differ
        else "with the same source, configuration and tools"
    )
    return compared("-", what, NAME, expected, found, f"another image comes out, {because}; see docs/builds.md")
