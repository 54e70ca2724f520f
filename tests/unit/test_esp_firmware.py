"""ESP-IDF builds as artifacts: what they hold, and what is wrong with those that are refused."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from fleetflash.agent.protocols.flash_parts import Part, PartsError, pack, unpack
from fleetflash.firmware.chips import chip
from fleetflash.firmware.errors import ArtifactError, FirmwareError, ImageError, ImageSizeError, WrongChipError
from fleetflash.firmware.esp import read_layout
from fleetflash.firmware.store import Store
from fleetflash.lab.esp_image import build_app, build_layout


def build(directory: Path, parts: Mapping[int, bytes], target: str = "esp32") -> Path:
    """A build directory as ESP-IDF leaves it."""
    names = {0x1000: "bootloader/bootloader.bin", 0x8000: "partition_table/partition-table.bin", 0x10000: "gateway.bin"}
    files = {}
    for offset, content in parts.items():
        name = names.get(offset, f"{offset:x}.bin")
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
        files[hex(offset)] = name
    path = directory / "flasher_args.json"
    path.write_text(json.dumps({"flash_files": files, "extra_esptool_args": {"chip": target}}))
    return path


@pytest.fixture
def parts() -> dict[int, bytes]:
    return dict(build_layout("esp32", {"factory": build_app("esp32", "v1.2.3", size=0x14000)}).parts)


def test_a_build_becomes_one_artifact_with_what_its_application_says(tmp_path: Path, parts: dict[int, bytes]) -> None:
    store = Store(tmp_path / "store")
    added = store.add(build(tmp_path / "build", parts), chip="esp32", name="gateway")
    assert (added.kind, added.version, added.esp and added.esp.project) == ("esp", "v1.2.3", "gateway")
    assert {file.name: file.offset for file in added.files} == {
        "bootloader.bin": 0x1000,
        "partition-table.bin": 0x8000,
        "d000.bin": 0xD000,
        "gateway.bin": 0x10000,
    }
    assert added.esp and added.esp.flash_bytes == 4 << 20 and added.esp.idf_version == "v5.3.1"
    image = store.read_image(added)
    assert hashlib.sha256(image).hexdigest() == added.image_sha256
    assert {part.offset: part.data for part in unpack(image)} == parts
    assert store.verify() == []
    # The same build in another directory is the same artifact.
    again = store.add(build(tmp_path / "elsewhere", parts), chip="esp32", name="gateway", label="factory")
    assert again.id == added.id and again.labels == ("factory",)


def test_the_whole_flash_in_one_file_is_an_artifact_too(tmp_path: Path, parts: dict[int, bytes]) -> None:
    merged = build_layout("esp32", {"factory": parts[0x10000]}).merge()
    (tmp_path / "merged.bin").write_bytes(merged)
    layout = read_layout(tmp_path / "merged.bin", chip("esp32"))
    assert layout.version == "v1.2.3" and layout.flash_bytes == 4 << 20
    assert unpack(layout.packed()) == [Part(0, merged)]


def test_what_an_image_would_overwrite_of_the_firmwares_own_data_is_known(
    tmp_path: Path, parts: dict[int, bytes]
) -> None:
    layout = read_layout(build(tmp_path, parts), chip("esp32"))
    assert (layout.settings, layout.filesystems) == ((), ())
    files = build_layout("esp32", {"factory": parts[0x10000]}, files={"index.html": b"<html>"}).parts
    (tmp_path / "web").mkdir()
    layout = read_layout(build(tmp_path / "web", files), chip("esp32"))
    assert (layout.settings, layout.filesystems) == ((), ("storage",))
    # An erased place in a file erases it in the flash, too.
    (tmp_path / "merged.bin").write_bytes(build_layout("esp32", {"factory": parts[0x10000]}).merge())
    store = Store(tmp_path / "store")
    added = store.add(tmp_path / "merged.bin", chip="esp32", name="gateway")
    assert added.esp and (added.esp.settings, added.esp.filesystems) == (("nvs",), ())


def test_an_application_alone_belongs_where_it_is_said_to(tmp_path: Path, parts: dict[int, bytes]) -> None:
    (tmp_path / "app.bin").write_bytes(parts[0x10000])
    assert read_layout(tmp_path / "app.bin", chip("esp32"), 0x10000).version == "v1.2.3"
    with pytest.raises(ImageError, match=r"does not belong at 0x0; give the build's flasher_args\.json"):
        read_layout(tmp_path / "app.bin", chip("esp32"))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({0x10000: build_app("esp32s3", "v1.2.3", size=0x14000)}, WrongChipError, "0x10000 was built for esp32s3"),
        ({0x10000: build_app("esp32", "v1.2.3", size=0x14000)[:-1]}, ImageError, "0x10000 is damaged"),
        ({0x8000: b"\xaa\x50" + bytes(0xBFE)}, ImageError, "partition table at 0x8000"),
        ({0x10000: build_app("esp32", "v1.2.3", size=0x110000)}, ImageSizeError, "partition factory at 0x10000"),
        ({0x2000: bytes(0x100)}, ImageError, "overlaps"),
        ({0xD000: b""}, ImageError, "the file is empty"),
    ],
)
def test_a_build_that_can_not_be_meant_is_refused(
    tmp_path: Path, parts: dict[int, bytes], change: dict[int, bytes], error: type[FirmwareError], words: str
) -> None:
    path = build(tmp_path, {**parts, **change})
    with pytest.raises(error, match=words) as caught:
        read_layout(path, chip("esp32"))
    assert str(tmp_path) in str(caught.value)


def test_a_build_for_another_chip_is_refused(tmp_path: Path, parts: dict[int, bytes]) -> None:
    with pytest.raises(WrongChipError, match="built for esp32, but the chip is esp32c3"):
        read_layout(build(tmp_path, parts), chip("esp32c3"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"flash_files": {"x": "y"}}', '{"flash_files": {}}'])
def test_what_is_no_description_of_a_build_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "flasher_args.json"
    path.write_text(text)
    with pytest.raises(ImageError, match=r"flasher_args\.json"):
        read_layout(path, chip("esp32"))


def test_a_file_of_the_build_that_is_missing_is_named(tmp_path: Path, parts: dict[int, bytes]) -> None:
    path = build(tmp_path, parts)
    (tmp_path / "gateway.bin").unlink()
    with pytest.raises(ImageError, match=r"gateway\.bin: No such file"):
        read_layout(path, chip("esp32"))


def test_a_version_must_be_the_applications_own(tmp_path: Path, parts: dict[int, bytes]) -> None:
    path = build(tmp_path, parts)
    with pytest.raises(ArtifactError, match=r"says 'v1\.2\.3', not 'v9'"):
        Store(tmp_path / "store").add(path, chip="esp32", name="gateway", version="v9")
    table = build(tmp_path / "table", {0x8000: parts[0x8000]})
    with pytest.raises(ArtifactError, match="give it with --version"):
        Store(tmp_path / "store").add(table, chip="esp32", name="gateway")


def test_parts_survive_being_packed_and_nothing_else_is_unpacked() -> None:
    parts = [Part(0x1000, b"boot"), Part(0x8000, b"table"), Part(0x1FF0000, b"end")]
    assert unpack(pack(reversed(parts))) == parts
    assert pack(parts) == pack(reversed(parts))
    for packed, words in ((b"", "no archive"), (b"x" * 2048, "no archive"), (pack(parts)[:700], "no archive")):
        with pytest.raises(PartsError, match=words):
            unpack(packed)
    with pytest.raises(PartsError, match="0x1002 overlaps"):
        pack([Part(0x1000, b"boot"), Part(0x1002, b"table")])
    with pytest.raises(PartsError, match="at least one"):
        pack([])
