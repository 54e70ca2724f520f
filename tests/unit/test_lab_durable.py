"""The lab's record of what survives a power cut, without a host: what it takes back and what it leaves alone."""

from pathlib import Path

import pytest

from fleetflash.lab import durable, inode, tree


@pytest.fixture
def host(tmp_path: Path) -> Path:
    host = tmp_path / "host"
    host.mkdir()
    return host


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host's disk with something in every watched directory."""
    root = tmp_path / "root"
    for watched in durable.ROOTS:
        place = root / watched.relative_to("/")
        (place / "below").mkdir(parents=True)
        (place / "file").write_text("old")
        (place / "below/other").write_text("old")
        (place / "link").symlink_to("./../file")
        (place / "file").chmod(0o640)
    return root


def state(root: Path) -> list[tree.Node | None]:
    return [tree.look(root / watched.relative_to("/")) for watched in durable.ROOTS]


def test_everything_that_was_not_synced_since_the_start_is_taken_back(host: Path, root: Path) -> None:
    before = state(root)
    durable.begin(host, root)
    place = root / "var/lib/fleetflash"
    (place / "file").write_text("new")
    (place / "file").chmod(0o600)
    (place / "below/other").unlink()
    (place / "below").rmdir()
    (place / "link").unlink()
    (place / "link").mkdir()
    (place / "new").mkdir()
    (place / "new/file").write_text("new")
    (root / "etc/systemd/system").rename(root / "etc/systemd/user")
    durable.lose_the_rest(host, root)
    assert state(root) == before


def test_a_directory_that_came_since_the_start_is_gone(host: Path, root: Path) -> None:
    place = root / "var/lib/fleetflash"
    tree.change(place, None)
    durable.begin(host, root)
    place.mkdir()
    durable.lose_the_rest(host, root)
    assert not place.exists()


def test_after_a_clean_stop_nothing_is_taken_back(host: Path, root: Path) -> None:
    durable.begin(host, root)
    (root / "var/lib/fleetflash/file").write_text("new")
    after = state(root)
    durable.forget(host)
    durable.lose_the_rest(host, root)
    assert state(root) == after and durable.survivors(host, root) == {}


def test_what_is_durable_is_not_touched(host: Path, root: Path) -> None:
    place = root / "var/lib/fleetflash"
    durable.begin(host, root)
    before = {path: (inode.key(path), path.lstat().st_mtime_ns) for path in (place / "below/other", place / "link")}
    (place / "file").write_text("new")
    durable.lose_the_rest(host, root)
    assert {path: (inode.key(path), path.lstat().st_mtime_ns) for path in before} == before


def test_what_lies_beside_a_watched_directory_stays(host: Path, root: Path) -> None:
    durable.begin(host, root)
    (root / "var/lib/fleetflash-other").write_text("new")
    (root / "var/lib/fleetflash/file").write_text("new")
    durable.lose_the_rest(host, root)
    assert sorted(path.name for path in (root / "var/lib").iterdir()) == ["fleetflash", "fleetflash-other"]


def test_an_inode_that_is_made_anew_has_another_key(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    first = inode.key(path)
    path.write_text("new")
    assert inode.key(path) == first
    path.with_name("kept").write_text("")
    path.with_name("kept").replace(path)
    assert inode.key(path) != first
    with pytest.raises(FileNotFoundError):
        inode.key(tmp_path / "absent")
