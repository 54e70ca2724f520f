"""The row of an artifact that is built once more: the same words for boards and gateways."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleetflash.firmware.artifact import Artifact
from fleetflash.verification.check import Check, Result, compared

NAME = "rebuild"


@dataclass(frozen=True)
class RebuildRow:
    """``artifact``: the pinned one."""

    artifact: Artifact

    def unlike(self, found: str, result: Result, detail: str) -> Check:
        """Say why nothing came out that could be compared, or what that means which did."""
        return Check("-", self._what, NAME, self._expected, found, result, detail)

    def changed(self, made: Artifact) -> list[str]:
        """Return what of all that decides a build is not as it was."""
        keys = ("configuration", "overlay", "toolchain_id")
        return [key for key in keys if made.build[key] != self.artifact.build.get(key)]

    def compared(self, made: Artifact, what: str, changed: Sequence[str]) -> Check:
        """Compare with what came out.

        + what: that is said of it when it is another one
        + changed: why that may be
        """
        because = (
            f"since its build, {' and '.join(changed)} changed"
            if changed
            else "with the same source, configuration and tools"
        )
        detail = f"{what}, {because}; see docs/builds.md"
        return compared("-", self._what, NAME, self._expected, made.image_sha256[:12], detail)

    @property
    def _what(self) -> str:
        return f"{self.artifact.name} {self.artifact.version}"

    @property
    def _expected(self) -> str:
        return self.artifact.image_sha256[:12]
