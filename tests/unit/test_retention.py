"""Old backups go; the last that could bring a board back never does, nor what somebody still means or needs."""

from dataclasses import replace

import pytest

from fleetflash.agent.retention import DAY_SECONDS, expired, is_named
from fleetflash.agent.schema import Backup, Image, Retention

NOW = 1000 * DAY_SECONDS
TWO = Retention(keep=2, days=100.0)


def backup(days: float, version: str = "v1", kind: str = "read-back", uid: str = "2a", **fields: str) -> Backup:
    """One that was taken ``days`` ago."""
    sha256 = f"{round(days * 10):064x}"
    taken = NOW - days * DAY_SECONDS
    transaction = fields.get("transaction", f"t{days:g}")
    image = Image(fields.get("artifact", ""), sha256, 1, version)
    return Backup("bmcu", kind, image, "stm32f103xb", uid, 0, transaction, "", taken)


def test_too_many_and_too_old_ones_go() -> None:
    backups = [backup(1), backup(2), backup(3), backup(4)]
    assert expired(backups, TWO, NOW) == backups[2:]
    assert expired(backups, Retention(keep=9, days=2.5), NOW) == backups[2:]
    assert expired(backups, Retention(keep=9, days=9), NOW) == []


def test_newest_is_kept_however_old() -> None:
    backups = [backup(500), backup(600)]
    assert expired(backups, TWO, NOW) == [backups[1]]


def test_last_that_was_read_is_kept_behind_any_number_of_registered_ones() -> None:
    """A registered image lies in the store anyway; a vendor's firmware, once overwritten, is nowhere else."""
    vendors = backup(900)
    backups = [*(backup(days, kind="known-good") for days in range(1, 6)), vendors, backup(901)]
    assert vendors not in expired(backups, TWO, NOW) and backups[-1] in expired(backups, TWO, NOW)


def test_last_of_each_chip_that_had_the_boards_name_is_kept() -> None:
    replaced = backup(800, uid="1b")
    assert replaced not in expired([backup(1), backup(2), backup(3), replaced], TWO, NOW)


@pytest.mark.parametrize("pin", ["v0", f"sha256:{backup(300).image.sha256}", f"sha256:{'a' * 12}"])
def test_what_a_pin_names_is_kept(pin: str) -> None:
    named = backup(300, "v0", artifact="a" * 64)
    backups = [backup(1), backup(2), backup(3), named]
    assert named in expired(backups, TWO, NOW)
    assert expired(backups, replace(TWO, pins=[pin]), NOW) == [backups[2]]


def test_of_many_that_a_version_names_the_newest_is_kept() -> None:
    backups = [backup(1, "v1"), backup(2, "v1"), backup(3, "v0"), backup(4, "v0")]
    assert expired(backups, replace(TWO, pins=["v0"]), NOW) == [backups[3]]


def test_pin_that_names_nothing_keeps_nothing() -> None:
    assert not is_named(backup(1, "v1"), "v2") and not is_named(backup(1), f"sha256:{'f' * 8}")


def test_what_an_unfinished_transaction_may_want_back_is_kept() -> None:
    backups = [backup(1), backup(2), backup(3, transaction="t-0"), backup(4)]
    assert expired(backups, TWO, NOW, ["t-0"]) == [backups[3]]


def test_clock_that_was_set_back_makes_nothing_old() -> None:
    backups = [backup(-50), backup(-40)]
    assert expired(backups, TWO, NOW) == []
