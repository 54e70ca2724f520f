"""A source tree moves to its commit, and what somebody has changed there is never lost."""

import subprocess
from pathlib import Path

import pytest

from fleetflash.agent.source_tree import MOVING, TreeError, look, move
from fleetflash.build.source import Sources
from fleetflash.provision import bundle


def git(directory: Path, *arguments: str) -> str:
    who = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]
    command = ["git", "-C", str(directory), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Upstream:
    """A repository with the tags v1 and v2, and what the controller sends of it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.path = directory, directory / "upstream"
        self.path.mkdir(parents=True)
        git(self.path, "init", "--quiet", "--initial-branch=master")
        for version in ("v1", "v2"):
            (self.path / "klippy.py").write_text(f"# {version}\n")
            (self.path / ".gitignore").write_text("*.so\n")
            git(self.path, "add", "--all")
            git(self.path, "commit", "--quiet", "--message", version)
            git(self.path, "tag", version)

    def commit(self, ref: str) -> str:
        return git(self.path, "rev-parse", ref)

    def bring(self, tree: Path, ref: str, discard: bool = False) -> str:
        revision = Sources(self.directory / "mirrors", self.directory / "work").resolve(str(self.path), ref)
        there = look(tree, revision.commit).commit
        file = self.directory / "bundle"
        file.write_bytes(bundle.make(revision, there))
        return move(tree, revision.commit, str(self.path), file, discard)


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "controller")


@pytest.fixture
def tree(tmp_path: Path, upstream: Upstream) -> Path:
    path = tmp_path / "host/klipper"
    path.parent.mkdir()
    upstream.bring(path, "v1")
    return path


def test_a_tree_is_pushed_and_moved_with_its_tags_and_stays_when_it_is_there(tree: Path, upstream: Upstream) -> None:
    assert git(tree, "describe", "--tags") == "v1"
    upstream.bring(tree, "v2")
    assert git(tree, "describe", "--tags", "--dirty") == "v2"
    assert git(tree, "config", "remote.origin.url") == str(upstream.path)
    upstream.bring(tree, "v1")
    assert (tree / "klippy.py").read_text() == "# v1\n"
    assert look(tree, upstream.commit("v1")).is_current
    assert sorted(path.name for path in tree.parent.iterdir()) == ["klipper"]


def test_a_host_can_fetch_by_itself(tmp_path: Path, upstream: Upstream) -> None:
    tree = tmp_path / "klipper"
    move(tree, "v2", str(upstream.path), None, discard=False)
    assert git(tree, "describe", "--tags") == "v2"
    assert look(tree, "v2").is_current
    with pytest.raises(TreeError, match="has no commit or tag 'v3'; pin another"):
        move(tree, "v3", str(upstream.path), None, discard=False)
    assert git(tree, "describe", "--tags") == "v2"


def test_a_repository_that_a_host_can_not_reach_is_named_with_what_to_do_and_the_tree_stays(
    tmp_path: Path, upstream: Upstream
) -> None:
    tree = tmp_path / "klipper"
    move(tree, "v1", str(upstream.path), None, discard=False)
    # Nobody listens there; what git says of it is two lines.
    with pytest.raises(TreeError, match=r"git://127\.0\.0\.1:9/klipper can't be fetched from this host") as refused:
        move(tree, "v2", "git://127.0.0.1:9/klipper", None, discard=False)
    assert "Connection refused" in str(refused.value) and "fetch = 'host'" in str(refused.value)
    assert git(tree, "describe", "--tags") == "v1"


def test_changed_files_refuse_the_move_and_are_saved_with_unknown_files_when_discarded(
    tree: Path, upstream: Upstream
) -> None:
    (tree / "klippy.py").write_text("# mine\n")
    (tree / "extra.py").write_text("mine too\n")
    with pytest.raises(TreeError, match=r"changes of its own \(klippy.py\).*klipper_discard_changes"):
        upstream.bring(tree, "v2")
    assert (tree / "klippy.py").read_text() == "# mine\n"
    kept = upstream.bring(tree, "v2", discard=True)
    (patch,) = (tree.parent / "klipper-saved").iterdir()
    assert str(patch) in kept
    assert "+# mine" in patch.read_text() and "+mine too" in patch.read_text()
    assert (tree / "klippy.py").read_text() == "# v2\n" and (tree / "extra.py").exists()


def test_files_that_git_does_not_know_are_no_obstacle_and_stay(tree: Path, upstream: Upstream) -> None:
    (tree / "extra.py").write_text("mine\n")
    upstream.bring(tree, "v2")
    assert (tree / "extra.py").read_text() == "mine\n" and git(tree, "describe", "--tags") == "v2"


def test_commits_that_are_nowhere_else_refuse_the_move_and_get_a_branch(tree: Path, upstream: Upstream) -> None:
    (tree / "klippy.py").write_text("# mine\n")
    git(tree, "commit", "--quiet", "--all", "--message", "mine")
    mine = git(tree, "rev-parse", "HEAD")
    with pytest.raises(TreeError, match="nobody's but this host's"):
        upstream.bring(tree, "v2")
    assert git(tree, "rev-parse", "HEAD") == mine
    assert "its commits are on the branch fleetflash-saved-" in upstream.bring(tree, "v2", discard=True)
    assert git(tree, "branch", "--format=%(objectname)", "--list", "fleetflash-saved-*") == mine


def test_a_directory_that_is_no_repository_is_refused_and_moved_aside_as_a_whole(
    tmp_path: Path, upstream: Upstream
) -> None:
    tree = tmp_path / "klipper"
    tree.mkdir()
    (tree / "klippy.py").write_text("# whose?\n")
    with pytest.raises(TreeError, match="no git repository"):
        upstream.bring(tree, "v1")
    upstream.bring(tree, "v1", discard=True)
    (saved,) = (tmp_path / "klipper-saved").iterdir()
    assert (saved / "klippy.py").read_text() == "# whose?\n" and (tree / "klippy.py").read_text() == "# v1\n"


def test_a_move_that_a_power_cut_interrupted_is_finished_without_taking_its_half_for_changes(
    tree: Path, upstream: Upstream
) -> None:
    (tree / MOVING).write_text("interrupted\n")
    (tree / "klippy.py").write_text("")
    (tree / ".git/index.lock").touch()
    assert not look(tree, upstream.commit("v1")).is_current
    upstream.bring(tree, "v1")
    assert (tree / "klippy.py").read_text() == "# v1\n" and not (tree / MOVING).exists()


def test_a_new_tree_that_was_interrupted_is_begun_anew(tmp_path: Path, upstream: Upstream) -> None:
    draft = tmp_path / ".klipper-new"
    draft.mkdir()
    (draft / "half").touch()
    upstream.bring(tmp_path / "klipper", "v1")
    assert sorted(path.name for path in (tmp_path / "klipper").iterdir()) == [".git", ".gitignore", "klippy.py"]
