"""Space that is kept aside lets the record go on when the disk fills up in the middle of a transaction."""

import errno
import os
from pathlib import Path

import pytest

from fleetflash.agent.reserve import SIZE, Reserve


class Disk:
    """A disk that is full for as long as the reserve takes up its last space."""

    def __init__(self, reserve: Reserve, number: int = errno.ENOSPC):
        self.reserve = reserve
        self.number = number
        self.writes = 0

    def write(self) -> str:
        self.writes += 1
        if self.reserve.path.exists():
            raise OSError(self.number, os.strerror(self.number))
        return "written"


@pytest.fixture
def reserve(tmp_path: Path) -> Reserve:
    return Reserve(tmp_path / "state" / "reserve")


def test_reserve_takes_up_space_until_it_is_released(reserve: Reserve) -> None:
    reserve.take()
    assert reserve.path.stat().st_blocks * 512 >= SIZE
    reserve.release()
    assert not reserve.path.exists()


def test_write_on_a_full_disk_is_repeated_in_the_reserved_space(reserve: Reserve) -> None:
    reserve.take()
    disk = Disk(reserve)
    assert reserve.spend(disk.write) == "written" and disk.writes == 2


def test_other_errors_do_not_cost_the_reserve(reserve: Reserve) -> None:
    reserve.take()
    with pytest.raises(OSError, match="Input/output"):
        reserve.spend(Disk(reserve, errno.EIO).write)
    assert reserve.path.exists()


def test_without_a_reserve_the_error_is_told(reserve: Reserve) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        reserve.spend(full)


def test_disk_without_room_for_it_leaves_nothing_behind(reserve: Reserve, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        reserve.take()
    assert not reserve.path.exists()
