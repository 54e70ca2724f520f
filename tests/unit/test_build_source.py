"""Source comes from a mirror, offline where it can, and an overlay makes the same version everywhere."""

from pathlib import Path

import pytest

from fleetflash.build.errors import OverlayError, SourceError
from fleetflash.build.overlay import Overlay
from fleetflash.build.source import Sources
from tests.firmware_source import FirmwareSource

NONE = Overlay("")


@pytest.fixture
def source(tmp_path: Path) -> FirmwareSource:
    return FirmwareSource(tmp_path / "klipper")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path / "cache/mirrors", tmp_path / "cache/work")


def overlay(directory: Path, files: dict[str, str] | None = None, patches: dict[str, str] | None = None) -> Overlay:
    for folder, contents in (("files", files), ("patches", patches)):
        for name, text in (contents or {}).items():
            path = directory / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return Overlay.read(directory)


PATCH = """--- a/src/Makefile
+++ b/src/Makefile
@@ -1 +1 @@
-src-y += main.c protocol.c
+src-y += main.c protocol.c extra.c
"""


def test_commits_and_tags_of_the_mirror_need_no_network(source: FirmwareSource, sources: Sources) -> None:
    commit = source.commit("v0.2.0")
    assert sources.resolve(str(source.path), "v0.2.0").commit == commit
    source.path.rename(source.path.with_name("gone"))
    for ref in ("v0.2.0", "v0.1.0", commit, commit[:9]):
        assert sources.resolve(str(source.path), ref).version.startswith("v0.")
    with pytest.raises(SourceError, match=r"klipper: main is not here and can't be fetched \(git fetch: .*; check the"):
        sources.resolve(str(source.path), "main")


def test_branch_is_asked_for_every_time(source: FirmwareSource, sources: Sources) -> None:
    first = sources.resolve(str(source.path), "main")
    commit = source.commit()
    assert sources.resolve(str(source.path), "main").commit == commit != first.commit


@pytest.mark.parametrize("ref", ["v9.9.9", "deadbeef", "--upload-pack=x", "a b", ""])
def test_ref_that_is_not_there_is_told(source: FirmwareSource, sources: Sources, ref: str) -> None:
    with pytest.raises(
        SourceError, match=r"klipper.*(no commit, tag or branch 'v9|no commit, tag or branch|is no commit)"
    ):
        sources.resolve(str(source.path), ref)


def test_repository_that_is_not_there_is_told(sources: Sources) -> None:
    with pytest.raises(SourceError, match=r"^http://127.0.0.1:1/klipper.git: v1 is not here and can't be fetched"):
        sources.resolve("http://127.0.0.1:1/klipper.git", "v1")


def test_password_in_a_url_is_refused_and_not_shown(sources: Sources) -> None:
    with pytest.raises(SourceError, match="credential helper") as caught:
        sources.resolve("https://user:hunter2@example.org/klipper.git", "v1")
    assert "hunter2" not in str(caught.value)


def test_worktree_is_clean_and_gone_afterwards(source: FirmwareSource, sources: Sources) -> None:
    revision = sources.resolve(str(source.path), "v0.1.0")
    with sources.worktree(revision, NONE) as tree, sources.worktree(revision, NONE) as other:
        assert tree.path != other.path and (tree.path / "src/Kconfig").is_file()
        assert tree.version == other.version == revision.version == f"v0.1.0-0-g{revision.commit[:8]}"
    assert [path.name for path in sources.work.iterdir()] == [".lock"]


def test_worktrees_of_dead_builders_are_swept(source: FirmwareSource, sources: Sources) -> None:
    revision = sources.resolve(str(source.path), "v0.1.0")
    (sources.work / "build-dead/klipper").mkdir(parents=True)
    (sources.work / "build-dead.lock").touch()
    with sources.worktree(revision, NONE) as tree:
        assert sorted(path.name for path in sources.work.glob("build-*")) == [
            tree.path.parent.name,
            f"{tree.path.parent.name}.lock",
        ]


def test_overlay_makes_the_same_clean_version_in_every_cache(source: FirmwareSource, tmp_path: Path) -> None:
    laid = overlay(tmp_path / "port", {"src/extra.c": "int extra;\n", ".config": "ignored=no\n"}, {"1.patch": PATCH})
    versions = set()
    for name in ("one", "two"):
        sources = Sources(tmp_path / name / "mirrors", tmp_path / name / "work")
        revision = sources.resolve(str(source.path), "v0.1.0")
        with sources.worktree(revision, laid) as tree:
            assert (tree.path / "src/extra.c").read_text() == "int extra;\n"
            assert "extra.c" in (tree.path / "src/Makefile").read_text()
            assert tree.version != revision.version
            versions.add(tree.version)
    assert len(versions) == 1 and versions.pop().startswith("v0.1.0-1-g")


def test_overlay_that_upstream_has_taken_in_is_noticed(
    source: FirmwareSource, sources: Sources, tmp_path: Path
) -> None:
    laid = overlay(tmp_path / "port", {"src/extra.c": "int extra;\n"}, {"1.patch": PATCH})
    (source.path / "src/extra.c").write_text("int extra;\n")
    source.replace("src/Makefile", "protocol.c", "protocol.c extra.c")
    source.commit("v0.2.0")
    revision = sources.resolve(str(source.path), "v0.2.0")
    with sources.worktree(revision, laid) as tree:
        assert tree.already == ("src/extra.c", "1.patch")
        assert tree.version == revision.version


def test_patch_that_no_longer_applies_is_an_error(source: FirmwareSource, sources: Sources, tmp_path: Path) -> None:
    laid = overlay(tmp_path / "port", patches={"1.patch": PATCH})
    source.replace("src/Makefile", "main.c protocol.c", "main.c  protocol.c")
    source.commit("v0.2.0")
    revision = sources.resolve(str(source.path), "v0.2.0")
    with (
        pytest.raises(OverlayError, match=r"overlay port: 1.patch does not apply \(patch failed: src/Makefile:1"),
        sources.worktree(revision, laid),
    ):
        pass
    assert [path.name for path in sources.work.iterdir()] == [".lock"]


def test_extra_file_never_replaces_one_of_the_source(source: FirmwareSource, sources: Sources, tmp_path: Path) -> None:
    laid = overlay(tmp_path / "port", {"src/main.c": "int main;\n"})
    revision = sources.resolve(str(source.path), "v0.1.0")
    with (
        pytest.raises(OverlayError, match=r"the source has another src/main.c .*make the difference a patch"),
        sources.worktree(revision, laid),
    ):
        pass


def test_hash_covers_names_contents_modes_and_patches(tmp_path: Path) -> None:
    port = tmp_path / "port"
    seen = [overlay(port, {"a": "1"}).hash]
    (port / "files/a").chmod(0o755)
    seen.append(Overlay.read(port).hash)
    seen.append(overlay(port, {"a": "2"}).hash)
    (port / "files/a").rename(port / "files/b")
    seen.append(Overlay.read(port).hash)
    seen.append(overlay(port, patches={"1.patch": PATCH}).hash)
    seen.append(overlay(port, patches={"1.patch": PATCH + "\n"}).hash)
    assert len(set(seen)) == len(seen)
    assert Overlay("none").hash == ""


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda port: port.mkdir(), r"neither files/ nor patches/"),
        (lambda port: (port / "files").mkdir(parents=True) or (port / "file").mkdir(), "file is none of files/"),
        (
            lambda port: (port / "files").mkdir(parents=True) or (port / "files/x").symlink_to("/etc/passwd"),
            "regular file",
        ),
        (
            lambda port: (port / "files/.git").mkdir(parents=True) or (port / "files/.git/config").touch(),
            "worktree's own",
        ),
    ],
)
def test_overlay_that_is_not_laid_out_right_is_told(tmp_path: Path, make: object, reason: str) -> None:
    make(tmp_path / "port")  # type: ignore[operator]
    with pytest.raises(OverlayError, match=reason):
        Overlay.read(tmp_path / "port")
