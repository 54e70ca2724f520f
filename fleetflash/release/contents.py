"""What belongs to a release: artifact, build, boot logs and captures, as path → content."""

from pathlib import Path

from fleetflash.boards import Board
from fleetflash.build.builds import DESCRIPTION as BUILD_DESCRIPTION
from fleetflash.build.builds import Builds
from fleetflash.build.idf.gateway_build import GatewayBuild
from fleetflash.firmware.artifact import DESCRIPTION, Artifact, write_artifact
from fleetflash.firmware.errors import FirmwareError
from fleetflash.firmware.store import Store
from fleetflash.functional.can_capture import Capture
from fleetflash.release.release import ReleaseError


def artifact_files(store: Store, artifact: Artifact) -> dict[str, bytes]:
    """Return the files for flash, checked, and their description; raises ``ReleaseError``."""
    try:
        files = {f"artifact/{file.name}": store.read_file(artifact, file) for file in artifact.files}
    except FirmwareError as error:
        raise ReleaseError(str(error)) from None
    return {**files, f"artifact/{DESCRIPTION}": write_artifact(artifact)}


def build_files(cache: Path, artifact: Artifact) -> dict[str, bytes]:
    """Return what the build left beside the images; nothing for an artifact that was registered from files.

    Raises ``ReleaseError`` when it was built here and its build is gone or damaged: nobody could explain it later.
    """
    key = str(artifact.build.get("build", ""))
    if not key:
        return {}
    builds = Builds(cache / "gateway-builds", GatewayBuild)
    build = builds.find(key)
    if build is None:
        raise ReleaseError(
            f"{artifact}: its build {key[:12]} is not in {cache}; build it here again, or name the cache"
        )
    flashed = {file.name for file in artifact.files}
    names = [name for name in build.files if name not in flashed]
    directory = builds.path(key)
    try:
        return {f"build/{name}": (directory / name).read_bytes() for name in (*names, BUILD_DESCRIPTION)}
    except OSError as error:
        raise ReleaseError(f"{error.filename}: {error.strerror}; build it again") from None


def boot_files(board: Board, logs: dict[str, bytes]) -> dict[str, bytes]:
    """Return the boot logs, and the contract that they were judged by; raises ``ReleaseError``."""
    files = {f"boot/{name}": content for name, content in logs.items()}
    if not board.contract:
        return files
    contract = Path(board.contract).expanduser()
    try:
        return {**files, f"boot/{contract.name}": contract.read_bytes()}
    except OSError as error:
        raise ReleaseError(f"{contract}: {error.strerror}; correct contract") from None


def capture_files(capture: Capture | None) -> dict[str, bytes]:
    """Return the CAN frames that were judged, as candump wrote them."""
    return {} if capture is None else {"captures/can.log": b"".join(line + b"\n" for line in capture.lines)}
