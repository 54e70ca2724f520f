"""The store: one artifact for one content, nothing half-written, nothing corrupt handed out."""

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from firmware_images import VERSION, dictionary_json, klipper_bin, make_elf, make_hex

from fleetflash.firmware import store as store_module
from fleetflash.firmware.artifact import Artifact, KlipperFacts, make_artifact, parse_artifact, write_artifact
from fleetflash.firmware.errors import (
    AmbiguousArtifactError,
    ArtifactConflictError,
    ArtifactError,
    ArtifactMissingError,
    CorruptArtifactError,
    FirmwareError,
    NotKlipperImageError,
    PinError,
    StoreError,
    UnknownChipError,
    WrongChipError,
)
from fleetflash.firmware.location import default_store
from fleetflash.firmware.store import Store

CHIP, NAME = "ch32v203c8t6", "bmcu-c"
AddImage = Callable[..., Artifact]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def add(store: Store, tmp_path: Path) -> AddImage:
    def add_bytes(content: bytes | None = None, file: str = "klipper.bin", **arguments: object) -> Artifact:
        (tmp_path / file).write_bytes(klipper_bin() if content is None else content)
        return store.add(tmp_path / file, **{"chip": CHIP, "name": NAME, **arguments})  # type: ignore[arg-type]

    return add_bytes


def damage(store: Store, artifact: Artifact, file: str = "firmware.bin") -> None:
    path = store.path(artifact) / file
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def test_artifact_knows_what_the_image_says(store: Store, add: AddImage) -> None:
    artifact = add(build={"commit": "abcdef12", "dirty": False})
    assert (artifact.kind, artifact.name, artifact.version, artifact.chip) == ("klipper", NAME, VERSION, CHIP)
    assert artifact.klipper and artifact.klipper.mcu == "ch32v203"
    assert artifact.klipper.constants["CLOCK_FREQ"] == 144000000
    assert artifact.build == {"commit": "abcdef12", "dirty": False}
    assert store.read_file(artifact) == store.read_file(artifact, "firmware.bin") == klipper_bin()
    assert store.get(artifact.id) == parse_artifact(write_artifact(artifact)) == artifact


def test_same_image_twice_is_one_artifact_with_both_labels(store: Store, add: AddImage) -> None:
    first = add()
    second = add(label="factory")
    third = add(label="tested")
    assert first.id == second.id == third.id
    assert store.find() == [third]
    assert third.labels == ("factory", "tested")
    assert third.created == first.created
    assert store.verify() == []


def test_same_content_in_another_format_is_the_same_artifact(store: Store, add: AddImage) -> None:
    data = klipper_bin()
    ids = {
        add(data).id,
        add(make_hex(0x0800_0000, data), "klipper.hex").id,
        add(make_elf([(0, 0, data)]), "klipper.elf").id,
    }
    assert len(ids) == 1


def test_identity_is_content_offset_and_chip(add: AddImage) -> None:
    ids = [add().id, add(offset=0x2000).id, add(klipper_bin(seed=2)).id, add(chip="ch32v203rbt6").id]
    assert len(set(ids)) == 4


def test_same_image_under_another_name_is_refused_naming_the_first(add: AddImage) -> None:
    add()
    with pytest.raises(ArtifactConflictError, match=f"already as {NAME} {VERSION}"):
        add(name="other")


def test_vendor_image_needs_to_be_asked_for(store: Store, add: AddImage) -> None:
    with pytest.raises(NotKlipperImageError, match="--raw"):
        add(b"vendor firmware", version="1.0")
    with pytest.raises(ArtifactError, match="--version"):
        add(b"vendor firmware", raw=True)
    artifact = add(b"vendor firmware", raw=True, version="1.0", label="factory")
    assert (artifact.kind, artifact.klipper) == ("raw", None)
    assert store.find(label="factory", chip=CHIP) == [artifact]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"chip": "z80"}, UnknownChipError),
        ({"chip": "atmega2560"}, WrongChipError),
        ({"version": "v9"}, ArtifactError),
        ({"version": 0.12}, PinError),
        ({"name": "../../etc"}, ArtifactError),
        ({"name": ""}, ArtifactError),
        ({"label": "two words"}, ArtifactError),
        ({"build": {"wifi_password": "hunter2"}}, ArtifactError),
        ({"build": {"x": ["hunter2"]}}, ArtifactError),
    ],
)
def test_refused_add_leaves_nothing_behind(
    store: Store, add: AddImage, arguments: dict[str, object], error: type[FirmwareError]
) -> None:
    with pytest.raises(error) as caught:
        add(**arguments)
    assert str(caught.value).isprintable() and "hunter2" not in str(caught.value)
    assert not store.directory.exists()


def test_get_by_unique_prefix(store: Store, add: AddImage) -> None:
    artifact = add()
    assert store.get(artifact.id[:6]) == store.get(f"sha256:{artifact.id[:6].upper()}") == artifact
    with pytest.raises(ArtifactMissingError, match="artifact list"):
        store.get("0000000" if not artifact.id.startswith("000") else "1111111")
    for bad in ("", "abc", "../x", "xyz12"):
        with pytest.raises(ArtifactMissingError, match="hexadecimal"):
            store.get(bad)


def test_prefix_of_two_artifacts_is_refused_naming_both(store: Store, add: AddImage) -> None:
    found: dict[str, str] = {}
    for seed in range(3000):
        # A chosen description collides sooner than whole images would.
        data = b"%d" % seed
        artifact = add(data, raw=True, version="1") if seed == 0 else _described(data)
        if (other := found.setdefault(artifact.id[:4], artifact.id)) != artifact.id:
            break
    for chosen in range(seed + 1):
        if _described(b"%d" % chosen).id in (other, artifact.id):
            store.publish(_described(b"%d" % chosen), {"firmware.bin": b"%d" % chosen})
    with pytest.raises(AmbiguousArtifactError, match=f"(?=.*{other[:8]})(?=.*{artifact.id[:8]})"):
        store.get(artifact.id[:4])


def _described(data: bytes, **changes: object) -> Artifact:
    file = {"name": "firmware.bin", "offset": 0, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    fields = {"kind": "raw", "name": NAME, "version": "1", "chip": CHIP, "files": (file,)}
    return make_artifact(**{**fields, "created": datetime.now(UTC), **changes})


def test_resolve_finds_the_pinned_version(store: Store, add: AddImage) -> None:
    old, new = add(klipper_bin("v0.11.0-1-g1")), add(klipper_bin("v0.12.0-1-g2"))
    assert store.resolve(NAME, "v0.11.0-1-g1", CHIP) == old
    assert store.resolve(NAME, "v0.12.0-1-g2", CHIP.upper()) == new
    assert store.resolve(NAME, f"sha256:{old.id[:12]}", CHIP) == old


def test_resolve_of_a_missing_version_lists_what_is_there_and_how_to_add(store: Store, add: AddImage) -> None:
    with pytest.raises(ArtifactMissingError, match="store is empty"):
        store.resolve(NAME, "v1", CHIP)
    add()
    add(klipper_bin("v0.11.0-1-g1"))
    command = f"fleetflash artifact add FILE --chip {CHIP} --name {NAME}"
    with pytest.raises(ArtifactMissingError, match=f"v0.11.0-1-g1, {VERSION}.*{command}"):
        store.resolve(NAME, "v1", CHIP)
    with pytest.raises(ArtifactMissingError, match=f"for {CHIP} only"):
        store.resolve(NAME, VERSION, "ch32v203rbt6")
    with pytest.raises(ArtifactMissingError, match=f"there is {NAME}"):
        store.resolve("other", VERSION, CHIP)


def test_resolve_never_takes_the_first_of_two(store: Store, add: AddImage) -> None:
    one, two = add(), add(klipper_bin(seed=2))
    with pytest.raises(AmbiguousArtifactError, match=f"(?=.*{one.short_id})(?=.*{two.short_id})"):
        store.resolve(NAME, VERSION, CHIP)
    assert store.resolve(NAME, f"sha256:{two.short_id}", CHIP) == two


def test_resolve_by_id_still_checks_name_and_chip(store: Store, add: AddImage) -> None:
    artifact = add()
    for name, chip in (("other", CHIP), (NAME, "ch32v203rbt6")):
        with pytest.raises(ArtifactMissingError, match="pin another"):
            store.resolve(name, f"sha256:{artifact.short_id}", chip)


@pytest.mark.parametrize("pin", [0.12, 12, float("inf"), None, True])
def test_resolve_refuses_a_pin_that_is_no_string(store: Store, pin: object) -> None:
    with pytest.raises(PinError):
        store.resolve(NAME, pin, CHIP)


def test_running_firmware_is_known_by_version_tools_and_constants(store: Store, add: AddImage) -> None:
    artifact = add()
    facts = artifact.klipper
    assert isinstance(facts, KlipperFacts)
    running = {"version": VERSION, "build_versions": facts.build_versions, "constants": facts.constants}
    assert store.find_running(chip=CHIP, **running) == [artifact]
    for change in (
        {"version": "v1"},
        {"build_versions": "gcc: 1"},
        {"constants": {**facts.constants, "SERIAL_BAUD": 1}},
    ):
        assert store.find_running(chip=CHIP, **{**running, **change}) == []
    assert store.find_running(chip="ch32v203rbt6", **running) == []


def test_corrupted_content_is_never_handed_out(store: Store, add: AddImage) -> None:
    artifact = add()
    damage(store, artifact)
    with pytest.raises(CorruptArtifactError, match="sha256"):
        store.read_file(artifact)
    assert ["sha256" in problem.detail for problem in store.verify()] == [True]
    with pytest.raises(CorruptArtifactError):
        add(label="factory")


def test_missing_and_short_content_is_detected(store: Store, add: AddImage) -> None:
    artifact = add()
    path = store.path(artifact, artifact.files[0])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptArtifactError, match="29999 bytes, expected 30000"):
        store.read_file(artifact)
    path.unlink()
    with pytest.raises(CorruptArtifactError, match="missing"):
        store.read_file(artifact)
    assert len(store.verify()) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(chip="ch32v203rbt6"),
        lambda d: d["files"][0].update(offset=4),
        lambda d: d["files"][0].update(sha256="0" * 64),
        lambda d: d["files"][0].update(name="../firmware.bin"),
        lambda d: d["files"][0].update(size="30000"),
        lambda d: d.update(files=[]),
        lambda d: d.update(files=d["files"] * 2),
        lambda d: d.update(surprise=1),
        lambda d: d.update(kind="raw"),
        lambda d: d.update(schema_version=2),
        lambda d: d.update(version="v\n"),
        lambda d: d.update(created="2026-01-01"),
        lambda d: d.pop("name"),
        lambda d: d.clear(),
    ],
)
def test_description_that_was_changed_is_refused(store: Store, add: AddImage, change: Callable[..., object]) -> None:
    artifact = add()
    path = store.path(artifact) / "artifact.json"
    description = json.loads(path.read_bytes())
    change(description)
    path.chmod(0o644)
    path.write_text(json.dumps(description))
    with pytest.raises(CorruptArtifactError) as caught:
        store.find()
    assert str(caught.value).isprintable() and str(path) in str(caught.value)
    assert len(store.verify()) == 1


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000])
def test_description_that_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(ArtifactError, match="JSON object"):
        parse_artifact(text)


def test_newer_schema_says_to_update(add: AddImage) -> None:
    text = write_artifact(add()).replace(b'"schema_version": 1', b'"schema_version": 9')
    with pytest.raises(ArtifactError, match=r"schema version 9.*update"):
        parse_artifact(text)


def test_verify_compares_the_facts_with_the_image(store: Store, add: AddImage) -> None:
    path = store.path(add()) / "artifact.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace("144000000", "96000000"))
    assert ["disagree" in problem.detail for problem in store.verify()] == [True]


def test_verify_finds_strays_and_unfinished_adds(store: Store, add: AddImage) -> None:
    artifact = add()
    (store.path(artifact) / "notes.txt").touch()
    (store.directory / "lost").touch()
    (store.directory / ".adding-fresh").mkdir()
    (store.directory / ".adding-old").mkdir()
    os.utime(store.directory / ".adding-old", (0, 0))
    assert {problem.artifact for problem in store.verify()} == {artifact.id, "lost", ".adding-old"}


def test_files_are_read_only_and_a_new_store_is_private(store: Store, add: AddImage) -> None:
    artifact = add(label="a")
    add(label="b")
    for path in store.path(artifact).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700


@pytest.mark.parametrize("step", ["write_read_only", "sync_directory"])
def test_add_that_fails_at_any_step_publishes_nothing(
    store: Store, add: AddImage, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, step, fail)
        with pytest.raises(StoreError, match="No space left"):
            add()
    assert store.find() == [] and store.verify() == []
    assert [path.name for path in store.directory.iterdir()] == [".lock"]
    assert [add()] == store.find()


def test_killed_add_leaves_the_store_usable(store: Store, tmp_path: Path, add: AddImage) -> None:
    (tmp_path / "klipper.bin").write_bytes(klipper_bin())
    program = (
        "import os, sys, fleetflash.firmware.store as s\n"
        "s.sync_directory = lambda path: os.kill(os.getpid(), 9)\n"
        "s.Store(sys.argv[1]).add(sys.argv[2], chip='ch32v203c8t6', name='bmcu-c')\n"
    )
    command = [sys.executable, "-c", program, str(store.directory), str(tmp_path / "klipper.bin")]
    assert subprocess.run(command).returncode == -9
    assert store.find() == []
    artifact = add()
    assert store.find() == [artifact] and store.verify() == []


def test_concurrent_adds_lose_nothing(store: Store, tmp_path: Path) -> None:
    def register(number: int) -> str:
        path = tmp_path / f"{number}.bin"
        path.write_bytes(klipper_bin(seed=number % 3))
        return Store(store.directory).add(path, chip=CHIP, name=NAME, label=f"label-{number}").id

    with ThreadPoolExecutor(12) as pool:
        ids = list(pool.map(register, range(24)))
    assert len(set(ids)) == len(store.find()) == 3
    assert sum(len(artifact.labels) for artifact in store.find()) == 24
    assert store.verify() == []


def test_publish_refuses_content_that_is_not_described(store: Store) -> None:
    for contents in ({}, {"firmware.bin": b"other"}, {"firmware.bin": b"datA"}):
        with pytest.raises(ArtifactError):
            store.publish(_described(b"data"), contents)
    assert not store.directory.exists()


def test_artifact_of_several_files_is_kept_and_read_by_name(store: Store) -> None:
    contents = {"bootloader.bin": b"boot", "app.bin": b"application"}
    files = tuple(
        {"name": name, "offset": offset, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for offset, (name, data) in zip((0x1000, 0x10000), contents.items(), strict=True)
    )
    artifact = store.publish(_described(b"-", files=files), contents)
    assert store.read_file(artifact, "app.bin") == b"application"
    assert artifact.size == 15
    with pytest.raises(ArtifactError, match="2 files"):
        store.read_file(artifact)
    with pytest.raises(ArtifactError, match="no file"):
        store.read_file(artifact, "x.bin")
    with pytest.raises(ArtifactError, match=r"artifact\.json"):
        _described(b"-", files=({**files[0], "name": "artifact.json"},))
    overlapping = (files[0], {**files[1], "offset": 0x1001})
    with pytest.raises(ArtifactError, match="overlaps"):
        _described(b"-", files=overlapping)


def test_unusable_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "klipper.bin").write_bytes(klipper_bin())
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match="FLEETFLASH_STORE"):
            Store(directory).add(tmp_path / "klipper.bin", chip=CHIP, name=NAME)


def test_default_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLEETFLASH_STORE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.chdir(tmp_path)
    assert default_store() == tmp_path / ".local/share/fleetflash/artifacts"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_store() == Path("/data/fleetflash/artifacts")
    (tmp_path / "artifacts").mkdir()
    assert default_store() == tmp_path / "artifacts"
    monkeypatch.setenv("FLEETFLASH_STORE", "~/mine")
    assert default_store() == Store().directory == tmp_path / "mine"
    assert Store(tmp_path).directory == tmp_path


def test_dictionary_file_alone_is_not_an_artifact(add: AddImage) -> None:
    with pytest.raises(FirmwareError, match="no bytes"):
        add(dictionary_json(), "klipper.dict")


def test_lab_image_becomes_an_artifact(store: Store, add: AddImage) -> None:
    lab = pytest.importorskip("fleetflash.lab.image")
    artifact = add(lab.build_image("v0.12.0-7-g77777777"))
    assert store.resolve(NAME, "v0.12.0-7-g77777777", CHIP) == artifact
