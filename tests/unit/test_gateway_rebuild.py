"""A pinned gateway's firmware is built again by its ESP-IDF, compared part by part. ``tests/idf_sdk`` stands in."""

from pathlib import Path
from typing import Any

import pytest

from fleetflash.firmware.artifact import Artifact
from fleetflash.incident.redaction import Redactor
from fleetflash.report.verification import VerificationReport
from fleetflash.verification.check import Check, Result
from fleetflash.verification.gateway_build_checks import check_gateway_builds
from tests.gateway_project import GatewayProject

SETTINGS: dict[str, Any] = {"kconfig": {"APP_REPRODUCIBLE_BUILD": True}}
APP = "tinybms-web-gateway.bin"


@pytest.fixture
def project(tmp_path: Path) -> GatewayProject:
    return GatewayProject(tmp_path)


def built(project: GatewayProject, **fields: Any) -> Artifact:
    return project.builder.ensure(project.gateway(**{"settings": SETTINGS, **fields})).artifact


def rebuilt(project: GatewayProject, artifact: Artifact, **fields: Any) -> Check:
    now = project.gateway(**{"settings": SETTINGS, **fields})
    (check,) = check_gateway_builds(project.builder, {"lyon": now}, [artifact])
    return check


def kept(project: GatewayProject) -> list[str]:
    places = ("cache/gateway-builds", "cache/work", "cache/symbols", "cache-store")
    return sorted(str(path) for place in places for path in (project.directory / place).rglob("[!.]*"))


def test_rebuild_is_the_same_leaves_nothing_and_takes_the_pinned_commit(project: GatewayProject) -> None:
    artifact = built(project, tests={})
    before, told = kept(project), len(project.told)
    project.source.replace("main/app_main.c", "#if", "/* of v1.1.0 */\n#if")
    project.source.commit("v1.1.0")
    check = rebuilt(project, artifact, tests={"command": ["false"]}, ref="v1.1.0")
    assert check.result is Result.OK and check.expected == check.found == artifact.image_sha256[:12]
    assert kept(project) == before
    assert "lyon: building v1.0.0-0-g" in " ".join(project.told[told:])


def test_part_that_differs_is_drift_and_named(project: GatewayProject) -> None:
    """Somebody works on ESP-IDF's bootloader where it lies, which changes no version."""
    artifact = built(project)
    images = project.sdk.path / "tools/images.py"
    images.write_text(images.read_text().replace("filler(idf_version, 0x2000)", 'filler("patched", 0x2000)'))
    check = rebuilt(project, artifact)
    assert check.result is Result.DRIFT and check.found != check.expected
    assert "another bootloader.bin comes out, with the same source, configuration and tools" in check.detail


def test_configuration_and_secrets_that_have_changed_since_are_said(
    project: GatewayProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SETTINGS, "station": {"ssid": "plant", "password": {"env": "GATEWAY_WIFI"}}}
    monkeypatch.setenv("GATEWAY_WIFI", "first-password")
    artifact = built(project, settings=settings)
    monkeypatch.setenv("GATEWAY_WIFI", "second-password")
    check = rebuilt(project, artifact, settings=settings)
    assert check.result is Result.DRIFT and "password" not in check.detail
    assert f"another {APP} comes out, since its build, secrets changed" in check.detail
    check = rebuilt(project, artifact, settings={**settings, "station": {"ssid": "other"}})
    assert check.result is Result.DRIFT and "configuration and secrets changed" in check.detail


def test_build_that_is_not_meant_to_be_the_same_each_time_proves_nothing_and_says_what_to_do(
    project: GatewayProject,
) -> None:
    artifact = built(project, settings={})
    check = rebuilt(project, artifact, settings={})
    assert check.result is Result.SKIPPED and "APP_REPRODUCIBLE_BUILD" in check.detail and APP in check.detail
    # Another configuration is drift all the same, and so is a part that is no program.
    other = rebuilt(project, artifact, settings={"metadata": {"manufacturer": "x"}})
    assert other.result is Result.DRIFT and "configuration changed" in other.detail
    images = project.sdk.path / "tools/images.py"
    images.write_text(images.read_text().replace(r'b"\xff" * 0x2000', r'b"\xfe" * 0x2000'))
    assert rebuilt(project, artifact, settings={}).result is Result.DRIFT


def test_what_nobody_describes_any_more_or_can_not_be_built_fails(project: GatewayProject) -> None:
    artifact = built(project, site="lyon")
    check = rebuilt(project, artifact, site="paris")
    assert check.result is Result.FAILED
    assert "no gateway type makes tinybms-gateway for esp32 at site lyon" in check.detail
    (project.sdk.path / "export.sh").unlink()
    project.builder = project.new_builder("cache")
    check = rebuilt(project, artifact, site="lyon")
    assert check.result is Result.FAILED and "gateway type lyon: ESP-IDF v5.3.1: no export.sh" in check.detail
    foreign = artifact.model_copy(update={"build": {"origin": "a colleague"}})
    assert rebuilt(project, foreign).result is Result.SKIPPED


def test_verify_has_a_row_for_a_gateway_that_was_built_here(
    project: GatewayProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = built(project)
    types = project.directory / "builders.py"
    described = {"lyon": project.fields(settings=SETTINGS)}
    types.write_text(f"esp_idf = {{'5.3': {project.sdk.data!r}}}\ngateway_types = {described!r}\n")
    monkeypatch.chdir(project.directory)
    monkeypatch.setenv("FLEETFLASH_BUILD_CACHE", str(project.directory / "cache"))
    monkeypatch.setenv("FLEETFLASH_STORE", str(project.directory / "cache-store"))
    report = VerificationReport(Redactor(), types=types)
    report.add([], [artifact])
    assert report.conclude() == 0
    assert [(check.name, check.result) for check in report.checks] == [("rebuild", Result.OK)]
