"""Does a gateway's source still build to the same firmware? Built once more by its ESP-IDF, compared part by part."""

from collections.abc import Iterable, Mapping

from fleetflash.build.errors import BuildError
from fleetflash.build.idf.builder import GatewayBuilder, Rebuilt
from fleetflash.build.idf.gateway_type import GatewayType
from fleetflash.firmware.artifact import Artifact
from fleetflash.firmware.errors import FirmwareError
from fleetflash.verification.check import Check, Result
from fleetflash.verification.rebuild_row import RebuildRow


def check_gateway_builds(
    builder: GatewayBuilder, types: Mapping[str, GatewayType], artifacts: Iterable[Artifact]
) -> list[Check]:
    """Return one check an artifact; one that was not built here can't be built again, and is skipped.

    + types: name → gateway type, as described now; the commit is that of the artifact
    """
    return [_check(builder, types, artifact) for artifact in sorted(artifacts, key=lambda artifact: str(artifact))]


def _check(builder: GatewayBuilder, types: Mapping[str, GatewayType], artifact: Artifact) -> Check:
    row, commit = RebuildRow(artifact), str(artifact.build.get("commit", ""))
    if not commit:
        return row.unlike("not built here", Result.SKIPPED, "it was registered from files")
    site = str(artifact.build.get("site", ""))
    wanted = (artifact.name, artifact.chip, site)
    fitting = [each for each in types.values() if (each.firmware, each.target, each.site) == wanted]
    if not fitting:
        where = f" at site {site}" if site else ""
        detail = f"no gateway type makes {artifact.name} for {artifact.chip}{where}; describe it in gateway_types again"
        return row.unlike("no gateway type", Result.FAILED, detail)
    for gateway in fitting:
        try:
            rebuilt = builder.rebuild(gateway.model_copy(update={"ref": commit}), str(artifact.build.get("build", "")))
        except (BuildError, FirmwareError) as error:
            return row.unlike("can't be built", Result.FAILED, str(error))
        if rebuilt.artifact.id == artifact.id:
            break
    return _judge(row, artifact, rebuilt)


def _judge(row: RebuildRow, artifact: Artifact, rebuilt: Rebuilt) -> Check:
    other = other_parts(artifact, rebuilt.artifact)
    what = f"another {' and '.join(other)} comes out"
    changed = row.changed(rebuilt.artifact) + (["secrets"] if rebuilt.new_secrets else [])
    if other and not changed and not rebuilt.reproducible and rebuilt.images.issuperset(other):
        detail = (
            f"{what}, which proves nothing: its configuration lets places and times of a build into its images; build "
            'it with "kconfig": {"APP_REPRODUCIBLE_BUILD": True} in its settings'
        )
        return row.unlike(rebuilt.artifact.image_sha256[:12], Result.SKIPPED, detail)
    return row.compared(rebuilt.artifact, what, changed)


def other_parts(one: Artifact, other: Artifact) -> list[str]:
    """Return the names of the parts that differ in content or place, or that only one of both has."""
    placed = [{(file.name, file.offset, file.sha256) for file in artifact.files} for artifact in (one, other)]
    return sorted({name for name, _, _ in placed[0] ^ placed[1]})
