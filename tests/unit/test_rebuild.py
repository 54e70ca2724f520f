"""What is pinned and was built here is built once more, and must come out the same. Debian's real compiler is used."""

from pathlib import Path

import pytest

from fleetflash.verification.build_checks import check_builds
from fleetflash.verification.check import Result
from tests.unit.test_build_builder import Project, left_behind


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_rebuild_is_the_same_leaves_nothing_and_takes_the_pinned_commit(project: Project) -> None:
    artifact = project.builder.ensure(project.board_type()).artifact
    kept = left_behind(project.builder)
    project.source.commit("v0.2.0")
    now = project.board_type(ref="v0.2.0")
    (check,) = check_builds(project.builder, {"arduino": now}, [artifact])
    assert check.result is Result.OK and check.expected == check.found == artifact.image_sha256[:12]
    assert project.built() == 2 and left_behind(project.builder) == kept
    assert [found.id for found in project.builder.store.find()] == [artifact.id]


def test_configuration_that_has_changed_since_is_drift_and_said(project: Project) -> None:
    artifact = project.builder.ensure(project.board_type()).artifact
    other = project.board_type(kconfig={"LOW_LEVEL_OPTIONS": True, "SERIAL_BAUD": 115200})
    (check,) = check_builds(project.builder, {"arduino": other}, [artifact])
    assert check.result is Result.DRIFT and "configuration changed" in check.detail


def test_what_was_not_built_here_is_skipped_and_what_nobody_describes_any_more_fails(project: Project) -> None:
    artifact = project.builder.ensure(project.board_type()).artifact
    foreign = artifact.model_copy(update={"build": {}})
    gone, skipped = check_builds(project.builder, {}, [artifact, foreign])
    assert (gone.result, skipped.result) == (Result.FAILED, Result.SKIPPED)
    assert "no board type makes klipper-avr" in gone.detail


def test_source_that_can_not_be_had_is_a_failed_check(project: Project) -> None:
    artifact = project.builder.ensure(project.board_type()).artifact
    away = project.board_type(repository=str(project.directory / "gone"))
    (check,) = check_builds(project.builder, {"arduino": away}, [artifact])
    assert check.result is Result.FAILED and "board type arduino" in check.detail
