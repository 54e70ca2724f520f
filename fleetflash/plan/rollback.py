"""Where a rollback leads: what was asked for, and the image that this means for each board. No I/O.

``previous`` is what a board ran before what it runs now. ``known-good`` is the newest image, other than what runs now,
that was committed on this board or read back from it, else the registered factory image. ``factory`` is that one. A pin
is an artifact's version, as in deploys/flash.py. A board that a rollback to the same target holds already is where it
leads: asking twice goes back once.
"""

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleetflash.agent.schema import API, HOST_CODE, UNFINISHED, BoardFacts, Hold, Image, Past, Snapshot
from fleetflash.boards import PROGRAMMERS, Board, KlipperHost
from fleetflash.firmware.artifact import Artifact, make_artifact
from fleetflash.firmware.chips import Chip
from fleetflash.firmware.errors import ArtifactError, ArtifactMissingError, FirmwareError, PinError
from fleetflash.firmware.versions import check_pin

PREVIOUS, KNOWN_GOOD, FACTORY, PIN = "previous", "known-good", "factory", "pin"
WORDS = (PREVIOUS, KNOWN_GOOD, FACTORY)
#: What ``rollback_version`` in group data may be asked with instead of one pin for all boards.
BY_TYPE = "rollback_version"

#: The version of what was read from a board that tells none.
UNKNOWN = "unknown"
#: For artifacts that nobody has registered.
_NEVER = datetime.datetime.fromtimestamp(0, datetime.UTC)
_EXAMPLE = "--data firmware_version='\"v0.12.0\"'"

Resolve = Callable[[str, object, str], Artifact]


class RollbackDataError(Exception):
    """What was asked of a rollback can't be. One line."""


@dataclass(frozen=True)
class Rollback:
    """``to``: one of ``WORDS``, or ``PIN``; ``pin``: the version for all boards, or ``pins``: by their firmware's name.

    ``klipper_version``: whether the host code's version was asked for, too; else it follows the boards.
    """

    to: str
    pin: str = ""
    pins: Mapping[str, str] = field(default_factory=dict)
    klipper_version: bool = False

    def version(self, board: Board) -> str | None:
        """Return a board's pin, or the word for where it goes; ``None`` for one that is no part of this."""
        if self.to != PIN:
            return self.to
        return self.pin or self.pins.get(board.firmware)


@dataclass(frozen=True)
class Goal:
    """The image that a board goes back to. ``image``: it is known from the host alone, which has it on its disk."""

    artifact: Artifact
    image: Image | None = None


def read_rollback(data: Mapping[str, object], override: Mapping[str, object]) -> Rollback:
    """Return what the data of a host asks for; raises ``RollbackDataError``.

    + data: all of it
    + override: what came from the command line (``--data``): there alone, ``firmware_version`` is a rollback's target
    """
    to, pin, by_type = data.get("to"), override.get("firmware_version"), data.get(BY_TYPE)
    asked = [key for key, value in (("to", to), ("firmware_version", pin)) if value is not None]
    if len(asked) > 1:
        raise RollbackDataError("to and firmware_version both say where to go back to; give one of them")
    code = override.get("klipper_version") is not None
    if to is not None:
        if to not in WORDS:
            raise RollbackDataError(f"to: expected {', '.join(WORDS)}, found {to!r}; for a version: {_EXAMPLE}")
        return Rollback(str(to), klipper_version=code)
    target = pin if pin is not None else by_type
    if target is None:
        raise RollbackDataError(
            f"nothing says where to go back to: {_EXAMPLE}, --data to={' or '.join(WORDS)}, or {BY_TYPE} in group_data"
        )
    try:
        if isinstance(target, Mapping):
            return Rollback(
                PIN, pins={str(name): check_pin(each) for name, each in target.items()}, klipper_version=code
            )
        return Rollback(PIN, pin=check_pin(target), klipper_version=code)
    except PinError as error:
        raise RollbackDataError(str(error)) from None


def aimed_data(data: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return a host's data with its Klipper at what was typed for it, whatever ``klipper`` says elsewhere."""
    described, version = data.get("klipper"), override.get("klipper_version")
    if version is None or not isinstance(described, Mapping):
        return dict(data)
    return {**data, "klipper": {**described, "ref": version}}


def aimed(desired: KlipperHost, rollback: Rollback) -> KlipperHost:
    """Return a host's desired state with each board pinned to where it goes; ``None`` for one that stays."""
    boards = tuple(board.model_copy(update={"firmware_version": rollback.version(board)}) for board in desired.boards)
    return dataclasses.replace(desired, boards=boards)


def find_goal(
    rollback: Rollback,
    board: Board,
    target: Chip,
    facts: BoardFacts,
    lineage: Sequence[Past],
    hold: Hold | None,
    artifacts: Sequence[Artifact],
    resolve: Resolve,
) -> Goal:
    """Return what a board goes back to; raises ``FirmwareError`` that names the image when it can't be had.

    + lineage: what the board ran, newest first
    + hold: what an earlier rollback has left
    + artifacts, resolve: the controller's, as in ``plan.Catalogue``
    """
    if rollback.to == PIN:
        return Goal(resolve(board.firmware, board.firmware_version, target.name))
    fitting = [artifact for artifact in artifacts if artifact.chip == target.name]
    if hold is not None and hold.target == rollback.to:
        there = [past for past in lineage if past.image.sha256 == hold.image_sha256]
        held = Past(Image("", hold.image_sha256, 0, hold.version))
        return _goal((there or [held])[0], board, target, fitting)
    if rollback.to == FACTORY:
        return Goal(_factory(board, target, fitting))
    before = lineage[1:] if lineage and _is_at(facts, lineage[0].image) else lineage
    if rollback.to == PREVIOUS:
        if not before:
            raise ArtifactMissingError(
                f"nothing is known of what {board.name} ran before {facts.firmware.version or 'what it runs now'}; "
                f"name the version: {_EXAMPLE}"
            )
        return _goal(before[0], board, target, fitting)
    for past in before:
        try:
            return _goal(past, board, target, fitting)
        except FirmwareError:
            continue
    return Goal(_factory(board, target, fitting))


def code_version(rollback: Rollback, observed: Snapshot, goals: Sequence[Goal]) -> tuple[str, str]:
    """Return the commit or version that Klipper's own code goes back to with its boards, and why that can't be said.

    ``goals``: those of the host's boards. What the host code was at before counts; else the version of the boards.
    """
    found = observed.checkout
    hold, lineage = observed.holds.get(HOST_CODE), observed.lineages.get(HOST_CODE, [])
    if rollback.to in (PREVIOUS, KNOWN_GOOD):
        if hold is not None and hold.target == rollback.to:
            return hold.image_sha256, ""
        before = lineage[1:] if lineage and found and found.commit == lineage[0].image.sha256 else lineage
        if before:
            return before[0].image.sha256, ""
    versions = sorted({goal.artifact.klipper.version for goal in goals if goal.artifact.klipper})
    if len(versions) > 1:
        return "", (
            f"policy exact: the boards go back to {' and '.join(versions)}; say where their host code shall be: "
            "--data klipper_version='\"v0.12.0\"'"
        )
    return (versions[0] if versions else found.commit if found else ""), ""


def _is_at(facts: BoardFacts, image: Image) -> bool:
    """Whether a board has an image, as far as anybody can tell: one that says nothing has what the ledger says."""
    if facts.ledger is not None and facts.ledger.image_sha256 == UNFINISHED:
        return False
    running = facts.firmware
    if running.version and running.version != image.version:
        return False
    if not running.version or running.source == API:
        return facts.ledger is None or facts.ledger.image_sha256 in ("", image.sha256)
    return all(running.constants.get(key, value) == value for key, value in image.constants.items())


def _goal(past: Past, board: Board, target: Chip, fitting: Sequence[Artifact]) -> Goal:
    """Return an image of the past from the store, else as the host has it."""
    image = past.image
    for artifact in fitting:
        if artifact.image_sha256 == image.sha256:
            return Goal(artifact)
    if past.on_disk:
        return Goal(_described(image, board, target), image)
    raise ArtifactMissingError(
        f"the image of {image.version or 'an unknown version'} (sha256 {image.sha256[:12]}), which {board.name} shall "
        "go back to, is neither in the artifact store nor on the host; register it: fleetflash artifact add IMAGE "
        f"--chip {target.name} --name {board.firmware}"
    )


def _described(image: Image, board: Board, target: Chip) -> Artifact:
    """Return the artifact that an image on the host would be, had it been registered."""
    version = image.version or UNKNOWN
    files = ({"name": "image.bin", "offset": board.flash_offset, "size": image.size, "sha256": image.sha256},)
    common: dict[str, Any] = {
        "name": board.firmware,
        "version": version,
        "chip": target.name,
        "files": files,
        "created": _NEVER,
    }
    try:
        if PROGRAMMERS[board.programmer].parts:
            esp = {"version": version, "packed_sha256": image.sha256, "flash_bytes": image.size}
            return make_artifact(kind="esp", esp=esp, **common)
        if not image.klipper:
            return make_artifact(kind="raw", **common)
        klipper = {
            "version": version,
            "build_versions": image.build_versions,
            "mcu": str(image.constants.get("MCU", "")),
            "constants": image.constants,
            "dictionary_sha256": image.sha256,
        }
        return make_artifact(kind="klipper", klipper=klipper, **common)
    except ArtifactError as error:
        raise ArtifactMissingError(f"the image {image.sha256[:12]} on the host makes no sense: {error}") from None


def _factory(board: Board, target: Chip, fitting: Sequence[Artifact]) -> Artifact:
    factory = [artifact for artifact in fitting if "factory" in artifact.labels]
    # A chip of many products: only the firmware's own name tells whose factory image it is.
    named = [artifact for artifact in factory if artifact.name == board.firmware]
    found = named or (factory if not PROGRAMMERS[board.programmer].parts else [])
    if len(found) == 1:
        return found[0]
    if found:
        ids = " and ".join(f"sha256:{artifact.short_id} ({artifact.version})" for artifact in found)
        raise ArtifactMissingError(
            f"{len(found)} factory images fit {board.name}: {ids}; pin one, e.g. "
            f"--data firmware_version='\"sha256:{found[0].short_id}\"'"
        )
    raise ArtifactMissingError(
        f"no factory image of {board.firmware} for {target.name} is registered, which {board.name} shall go back to; "
        f"register it: fleetflash artifact add IMAGE --chip {target.name} --name {board.firmware} --label factory"
    )
