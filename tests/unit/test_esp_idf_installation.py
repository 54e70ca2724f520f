"""A pinned ESP-IDF is installed from its archive by its own tools, once, and exists only when that came to its end."""

from pathlib import Path
from typing import Any

import pytest

from fleetflash.build.errors import BuildError
from fleetflash.build.idf.environment import Idf, check
from fleetflash.build.idf.esp_idf import EspIdf, read_esp_idf
from fleetflash.build.idf.installation import place
from fleetflash.build.toolchain_cache import ToolchainCache
from tests.gateway_project import GatewayProject
from tests.idf import PackedSdk


class Bench:
    """``told``: what was reported."""

    def __init__(self, directory: Path) -> None:
        self.sdk, self.cache = PackedSdk(directory), ToolchainCache(directory / "cache")
        self.entry = self.cache.directory / self.sdk.sha256
        self.told: list[str] = []

    def pinned(self, **changed: Any) -> EspIdf:
        return read_esp_idf({"5.3": self.sdk.data | changed})["5.3"]

    def found(self, target: str = "esp32", **changed: Any) -> Idf:
        pinned = self.pinned(**changed)
        with place(pinned, target, self.cache, self.told.append) as there:
            return check(pinned, there, target)

    def refusal(self, target: str = "esp32", **changed: Any) -> str:
        with pytest.raises(BuildError) as error:
            self.found(target, **changed)
        assert "\n" not in str(error.value) and "5.3" in str(error.value)
        return str(error.value)

    def calls(self) -> list[str]:
        lines = (self.entry / "idf-tools/calls").read_text().splitlines()
        return [line.partition(" [")[0].removeprefix("--non-interactive ") for line in lines]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_it_is_fetched_installed_and_checked_once(bench: Bench) -> None:
    idf = bench.found()
    assert (idf.version, idf.path) == ("v5.3.1", bench.entry / "tree/esp-idf-v5.3.1")
    assert idf.variables["IDF_TOOLS_PATH"] == str(bench.entry / "idf-tools")
    assert bench.told == ["fetching toolchain esp-idf v5.3.1", "installing the tools of ESP-IDF v5.3.1 for esp32"]
    bench.sdk.path.unlink()
    assert bench.found() == idf and len(bench.told) == 2
    assert bench.calls() == ["install --targets=esp32", "install-python-env"]


def test_another_target_is_added_to_what_is_there(bench: Bench) -> None:
    first = bench.found().id
    assert bench.found("esp32s3").id == first and bench.found().id == first
    assert bench.calls() == ["install --targets=esp32", "install-python-env", "install --targets=esp32s3"]


def test_two_computers_agree_on_what_it_is(bench: Bench, tmp_path: Path) -> None:
    first = bench.found().id
    bench.cache = ToolchainCache(tmp_path / "another")
    assert bench.found().id == first


def test_what_a_builder_that_died_has_left_is_made_anew(bench: Bench) -> None:
    bench.found()
    (bench.entry / "idf-tools.json").unlink()
    (bench.entry / "idf-tools/half").touch()
    bench.found()
    assert not (bench.entry / "idf-tools/half").exists()
    assert bench.calls() == ["install --targets=esp32", "install-python-env"]


def test_an_installation_that_fails_says_why_and_is_tried_again(bench: Bench) -> None:
    with bench.cache.tree(bench.pinned().toolchain(), bench.pinned().archive or pytest.fail()) as tree:
        broken = tree / "esp-idf-v5.3.1/tools/broken"
        broken.write_text("Failed to download")
    said = bench.refusal()
    assert (
        "idf_tools.py install --targets=esp32 failed (Downloading | ERROR: Failed to download); check the net" in said
    )
    assert not (bench.entry / "idf-tools.json").exists()
    broken.unlink()
    bench.found()
    broken.write_text("No space left on device")
    assert "--targets=esp32s3 failed" in bench.refusal("esp32s3")
    bench.found()


def test_nothing_of_the_users_reaches_it_but_how_the_network_is_reached(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_WIFI", "c4nary-of-the-user")
    monkeypatch.setenv("https_proxy", "http://proxy.lan:3128")
    idf = bench.found()
    (first, *_) = (bench.entry / "idf-tools/calls").read_text().splitlines()
    assert '"https_proxy"' in first and "GATEWAY_WIFI" not in first
    # What is built is told nothing of it.
    assert "https_proxy" not in idf.variables


def test_an_archive_that_is_another_one_is_refused(bench: Bench) -> None:
    assert "its archive has no esp-idf/tools/idf_tools.py; correct directory" in bench.refusal(directory="esp-idf")
    said = bench.refusal(version="v5.3.2", directory="esp-idf-v5.3.1")
    assert "idf.py --version says 'v5.3.1'" in said and said.endswith("pin that, or the archive of v5.3.2")
    other = {"urls": bench.sdk.path.as_uri(), "sha256": "0" * 64}
    assert f"has sha256 {bench.sdk.sha256}, expected {'0' * 64}" in bench.refusal(archive=other)


def test_collecting_takes_its_tools_along(bench: Bench) -> None:
    bench.found()
    with place(bench.pinned(), "esp32", bench.cache):
        assert bench.cache.collect(keep=0) == []
    assert [entry.name for entry in bench.cache.collect(keep=0)] == ["esp-idf"]
    assert not bench.entry.exists()
    assert bench.found().version == "v5.3.1"


def test_a_gateway_is_built_with_it(tmp_path: Path) -> None:
    project, packed = GatewayProject(tmp_path), PackedSdk(tmp_path / "release")
    builder = project.new_builder("packed", packed.data)
    outcome = builder.ensure(project.gateway())
    assert outcome.built and outcome.build.idf_version == "v5.3.1"
    other = builder.ensure(project.gateway("paris", target="esp32s3", firmware="tinybms-gateway-s3"))
    assert other.artifact.chip == "esp32s3"
    assert not project.new_builder("packed", packed.data).ensure(project.gateway()).built
