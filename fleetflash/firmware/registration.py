"""From an image file to the artifact that it makes: read, checked against its chip, described."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from fleetflash.firmware.artifact import Artifact, KlipperFacts, make_artifact
from fleetflash.firmware.chips import ESP, check_image_fits
from fleetflash.firmware.chips import chip as chip_by_name
from fleetflash.firmware.errors import ArtifactError, NotKlipperImageError
from fleetflash.firmware.esp import describe_layout
from fleetflash.firmware.image import Image, load_image
from fleetflash.firmware.versions import check_pin

IMAGE_FILE = "firmware.bin"


def describe_image(
    path: Path | str,
    *,
    chip: str,
    name: str,
    version: str | None = None,
    label: str | None = None,
    offset: int | None = None,
    raw: bool = False,
    build: Mapping[str, str | int | bool] | None = None,
) -> tuple[Artifact, dict[str, bytes]]:
    """Return the artifact that an image file makes, and its files; arguments as in ``Store.add``.

    The bytes for flash are kept, not the file around them, so that ``klipper.elf`` and the ``klipper.bin``
    made from it are the same artifact.
    """
    known_chip = chip_by_name(chip)
    if known_chip.family == ESP:
        return describe_layout(
            Path(path), known_chip, name=name, version=version, label=label, offset=offset, build=build
        )
    image = load_image(path, offset, known_chip.program)
    flash_offset = check_image_fits(image, known_chip)
    file = {"name": IMAGE_FILE, "offset": flash_offset, "size": len(image.data), "sha256": image.sha256}
    artifact = make_artifact(
        kind="klipper" if image.dictionary else "raw",
        name=name,
        version=_version(image, version, raw, path),
        chip=known_chip.name,
        files=(file,),
        klipper=KlipperFacts.of(image.dictionary) if image.dictionary else None,
        build=dict(build or {}),
        labels=(label,) if label is not None else (),
        created=datetime.now(UTC).replace(microsecond=0),
    )
    return artifact, {IMAGE_FILE: image.data}


def _version(image: Image, version: str | None, raw: bool, path: Path | str) -> str:
    given = check_pin(version) if version is not None else None
    if image.dictionary is None:
        if not raw:
            raise NotKlipperImageError(
                f"{path}: no Klipper data dictionary in it; give the image of a Klipper build, "
                "or --raw and --version for another firmware"
            )
        if given is None:
            raise ArtifactError(f"{path}: this image does not tell its version; give it with --version")
        return given
    if given is not None and given != image.dictionary.version:
        # The board will report what the image says, so a pin of another name would never be reached.
        raise ArtifactError(
            f"{path}: the image says version {image.dictionary.version!r}, not {given!r}; leave --version out"
        )
    return image.dictionary.version
