"""After a transaction the controller has what the host has; what it can't get now it gets later, and nobody fails."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent.backups import Backups, Occasion
from fleetflash.agent.schema import Firmware
from fleetflash.agent.store import Store
from fleetflash.firmware.backup_store import BackupStore
from fleetflash.link.errors import UnreachableError
from fleetflash.operations.backup_copies import copy_backups
from tests.unit.observed import OLD, board, facts, hold, plan, snapshot
from tests.unit.test_backup_transfer import Pipe
from tests.unit.test_backups import board as described

RUNNING = Firmware("klippy", "v1")


class Inventory(list[Any]):
    """A run over some hosts: their name, group and data. ``typed``: what came with ``--data``."""

    def __init__(self, **typed: Any) -> None:
        super().__init__()
        self.typed = typed

    def get_override_data(self) -> dict[str, Any]:
        return self.typed

    def get_host_data(self, name: str) -> Any:
        return next(host.own for host in self if host.name == name)

    def get_group_data(self, group: str) -> dict[str, Any]:
        return {}

    def get_data(self) -> dict[str, Any]:
        return {}

    def host(self, name: str, version: str = "v2", **data: Any) -> Any:
        boards = {"bmcu": {"chip": "ch32v203c8t6", "port": "/dev/p", "firmware": "k", "firmware_version": version}}
        values = {"boards": boards, **data}
        made = types.SimpleNamespace(
            name=name,
            groups=["klipper_hosts"],
            own=values,
            data=types.SimpleNamespace(dict=lambda: {**values, **self.typed}),
            state=types.SimpleNamespace(inventory=self),
            print_prefix=f"[{name}] ",
        )
        self.append(made)
        return made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BackupStore:
    monkeypatch.setenv("FLEETFLASH_STORE", str(tmp_path / "store"))
    return BackupStore()


@pytest.fixture
def there(tmp_path: Path) -> Store:
    return Store(tmp_path / "host")


@pytest.fixture
def pipe(there: Store) -> Iterator[Pipe]:
    opened = Pipe(there)
    yield opened
    opened.close()


def keep(there: Store, data: bytes, time: float, version: str = "v1", name: str = "bmcu") -> None:
    occasion = Occasion(f"t{time:g}", "why", time)
    Backups(there).add(described(name=name), data, Firmware("klippy", version), "2a", occasion)


def versions(here: BackupStore) -> list[str]:
    return [kept.backup.image.version for kept in here.find()]


def test_all_that_is_there_is_here_afterwards_under_the_inventorys_name(
    here: BackupStore, there: Store, pipe: Pipe
) -> None:
    keep(there, b"old", 2e9)
    keep(there, b"older", 1.9e9, "v0")
    assert copy_backups(pipe, Inventory().host("printer-1"), plan()) == ""
    assert [(k.host, k.backup.board, here.read(k)) for k in here.find()] == [
        ("printer-1", "bmcu", b"old"),
        ("printer-1", "bmcu", b"older"),
    ]


def test_other_boards_of_the_host_are_other_entries_business(here: BackupStore, there: Store, pipe: Pipe) -> None:
    keep(there, b"old", 2e9, name="of-another-printer")
    assert copy_backups(pipe, Inventory().host("printer-1"), plan()) == "" and here.find() == []


def test_one_that_is_damaged_there_keeps_no_other_from_coming(here: BackupStore, there: Store, pipe: Pipe) -> None:
    keep(there, b"older", 1e9, "v-1")
    keep(there, b"old", 1.9e9, "v0")
    keep(there, b"new", 2e9)
    there.image(Backups(there).of("bmcu")[0].image.sha256).write_bytes(b"rot")
    problem = copy_backups(pipe, Inventory().host("printer-1", backup_keep=1), plan())
    assert "backups are on the host, and not all here: printer-1: " in problem and "expected sha256" in problem
    assert versions(here) == ["v0", "v-1"]


def test_too_many_go_here_too_but_none_that_any_host_of_the_inventory_is_pinned_to(
    here: BackupStore, there: Store, pipe: Pipe
) -> None:
    for number, version in enumerate(("v0", "v1", "v2", "v3")):
        keep(there, version.encode(), 2e9 + number, version)
    inventory = Inventory()
    host = inventory.host("printer-1", "v3", backup_keep=1)
    inventory.host("printer-2", "v1")
    assert copy_backups(pipe, host, plan()) == ""
    assert versions(here) == ["v3", "v1"]


def test_what_a_board_of_the_host_is_held_at_stays_here_too(here: BackupStore, there: Store, pipe: Pipe) -> None:
    for number, version in enumerate(("v0", "v1", "v3")):
        keep(there, version.encode(), 2e9 + number, version)
    host = Inventory().host("printer-1", "v3", backup_keep=1)
    seen = snapshot(facts(), facts("b", "/dev/ttyUSB1"), holds={"b": hold(OLD)})
    assert copy_backups(pipe, host, plan(seen, board(), board("b", klippy_mcu="b"))) == ""
    assert versions(here) == ["v3", "v1"]


def test_what_a_host_is_pinned_to_stays_here_in_a_run_to_another_version(
    here: BackupStore, there: Store, pipe: Pipe
) -> None:
    for number, version in enumerate(("v0", "v1", "v3")):
        keep(there, version.encode(), 2e9 + number, version)
    host = Inventory(firmware_version="v3").host("printer-1", "v3", backup_keep=1, firmware_version="v1")
    assert copy_backups(pipe, host, plan()) == ""
    assert versions(here) == ["v3", "v1"]


def test_link_that_is_lost_is_told_and_nothing_is_deleted(here: BackupStore, there: Store) -> None:
    class Lost:
        def send(self, message: dict[str, Any]) -> None:
            raise UnreachableError("printer-1: the SSH connection was lost")

    problem = copy_backups(Lost(), Inventory().host("printer-1"), plan(None, board()))  # type: ignore[arg-type]
    assert problem == "backups are on the host, and not all here: printer-1: the SSH connection was lost"
