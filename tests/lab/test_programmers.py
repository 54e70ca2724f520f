"""One printer with a board of each kind: all get their firmware in one run, and what fails is taken back."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleetflash.lab.image import build_image
from fleetflash.lab.lab import Lab, leftovers
from fleetflash.lab.spec import BoardSpec, HostSpec
from tests.lab.conftest import full_only, require_lab
from tests.lab.fleet import FACTORY, WANTED, Fleet, Run, journal, mcu_version

KIB = 1024
UID = "2a0035000851363131363530"


@dataclass(frozen=True)
class Kind:
    """A simulated board, and what the inventory says of it. ``by_id``: its port is named by its USB name."""

    kind: str
    chip: str
    mcu: str
    programmer: str
    offset: int = 0
    base: int | None = None
    uid: str = UID
    by_id: str = ""

    def image(self, version: str) -> bytes:
        base = None if self.base is None else self.base + self.offset
        return build_image(version, mcu=self.mcu, size=12 * KIB, base=base)


BOARDS = {
    "main": Kind("stm32f103", "stm32f103xb", "stm32f103xe", "stm32_rom"),
    "old": Kind("atmega328p", "atmega328p", "atmega328p", "stk500", uid=""),
    "uart": Kind("katapult-f103", "stm32f103xb", "stm32f103xe", "katapult", 8 * KIB, 0x0800_0000),
    "usb": Kind("katapult-f446", "stm32f446xe", "stm32f446xx", "katapult", 32 * KIB, 0x0800_0000),
    "tool": Kind(
        "katapult-rp2040", "rp2040", "rp2040", "katapult", 16 * KIB, 0x1000_0000, UID[:16], "usb-Klipper_rp2040_"
    ),
}


class Bench(Fleet):
    """A fleet of one printer, ``printer-1``."""

    def __post_init__(self) -> None:
        for name, kind in BOARDS.items():
            for version in (FACTORY, WANTED):
                path = self.directory / f"{name}-{version}.bin"
                path.write_bytes(kind.image(version))
                where = ["--offset", hex(kind.offset)] if kind.offset else []
                added = self.fleetflash("artifact", "add", str(path), "--chip", kind.chip, "--name", name, *where)
                assert added.code == 0, added.output
        self.inventory["printer-1"] = self.describe(self.lab.host("printer-1"))

    def describe(self, host: Any, **boards: dict[str, Any]) -> dict[str, Any]:
        described = super().describe(host)
        names = host.run("ls /dev/serial/by-id /dev/serial/by-path", check=True).stdout.split()
        paths = {number: name for number in range(1, 9) for name in names if f"usb-0:1.{number}:1.0" in name}
        for number, (name, kind) in enumerate(BOARDS.items(), 1):
            port = f"/dev/serial/by-path/{paths[number]}"
            if kind.by_id:
                port = "/dev/serial/by-id/" + next(found for found in names if found.startswith(kind.by_id))
            described["boards"][name] = {
                "port": port,
                "klippy_mcu": "mcu" if number == 1 else name,
                "chip": kind.chip,
                "programmer": kind.programmer,
                "flash_offset": kind.offset,
                "firmware": name,
                **boards.get(name, {}),
            }
        return described

    def flash(self, version: str, *names: str, store: str = "", **board: Any) -> Run:
        """Flash the boards ``names``, by default all."""
        described = self.inventory["printer-1"]["boards"]
        changed = {name: {**described[name], "firmware_version": version, **board} for name in names or described}
        return self.pyinfra(self.write_inventory(printer_1={"boards": changed}), store=store)

    def versions(self) -> dict[str, str]:
        host = self.lab.host("printer-1")
        return {name: mcu_version(host, "mcu" if name == "main" else name) for name in BOARDS}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    require_lab()
    boards = tuple(
        BoardSpec(name, mcu="mcu" if name == "main" else name, kind=kind.kind, uid=kind.uid)
        for name, kind in BOARDS.items()
    )
    name, subnet = os.environ.get("FLEETFLASH_TEST_BENCH", "test-bench=10.75.0").split("=")
    with Lab.up(name, (HostSpec("printer-1", boards),), subnet, wait_klippy=90.0) as lab:
        yield Bench(lab, tmp_path_factory.mktemp("bench"))
    assert leftovers(lab.layout) == []


def content(bench: Bench, name: str) -> bytes:
    kind = BOARDS[name]
    return bench.lab.host("printer-1").board(name).flash.read_bytes()[kind.offset :][: 12 * KIB]


@pytest.mark.lab
def test_boards_of_every_kind_are_flashed_in_one_run_and_left_alone_in_the_next(bench: Bench) -> None:
    run = bench.flash(WANTED)
    assert run.code == 0, run.output
    assert bench.versions() == dict.fromkeys(BOARDS, WANTED)
    assert all(content(bench, name) == kind.image(WANTED) for name, kind in BOARDS.items())
    seen = {
        entry["board"]: entry["uid"] for entry in journal(bench.lab.host("printer-1")) if entry["step"] == "writing"
    }
    assert seen == {"main": UID, "old": "", "uart": "", "usb": UID, "tool": UID[:16]}
    again = bench.flash(WANTED)
    assert again.code == 0 and "5 already current" in again.output, again.output


@pytest.mark.lab
def test_boards_of_every_kind_are_flashed_from_here_over_their_lent_ports(bench: Bench) -> None:
    wanted = FACTORY if WANTED in bench.versions().values() else WANTED
    run = bench.flash(wanted, placement="controller")
    assert run.code == 0, run.output
    assert bench.versions() == dict.fromkeys(BOARDS, wanted)


@full_only
@pytest.mark.lab
def test_boards_that_fail_in_the_middle_are_taken_back_and_the_others_stay(bench: Bench) -> None:
    host = bench.lab.host("printer-1")
    before = bench.versions()
    wanted = FACTORY if WANTED in before.values() else WANTED
    for name in ("main", "old", "usb"):
        # Katapult is asked three times for each block.
        host.board(name).control.ask(
            "fault", kind="drop", command="program", byte=BOARDS[name].offset + 5000, count=3 if name == "usb" else 1
        )
    run = bench.flash(wanted)
    assert run.code == 1, run.output
    for name in ("main", "old", "usb"):
        assert run.line(f"printer-1/{name}: restored")
    assert bench.versions() == {
        **dict.fromkeys(BOARDS, wanted),
        **{name: before[name] for name in ("main", "old", "usb")},
    }


@pytest.mark.lab
@full_only
def test_boards_whose_firmware_nobody_has_are_read_before_they_are_erased(bench: Bench, tmp_path: Path) -> None:
    host = bench.lab.host("printer-1")
    assert bench.flash(FACTORY).code == 0
    store = str(tmp_path / "store")
    for name in ("main", "old"):
        image = str(bench.directory / f"{name}-{WANTED}.bin")
        added = bench.fleetflash(
            "artifact", "add", image, "--chip", BOARDS[name].chip, "--name", name, "--store", store
        )
        assert added.code == 0, added.output
    host.run("sudo rm -rf /var/lib/fleetflash/boards", check=True)
    held = content(bench, "main")
    host.board("main").control.ask("fault", kind="drop", command="program", byte=5000, count=1)
    run = bench.flash(WANTED, "main", "old", store=store)
    assert run.code == 1, run.output
    assert run.line("printer-1/main: restored") and run.line("printer-1", "old", "flashed")
    assert content(bench, "main") == held
    assert bench.versions() == {**dict.fromkeys(BOARDS, FACTORY), "old": WANTED}
    read = host.run("cd /var/lib/fleetflash/backups && grep -l read-back *.json", check=True).stdout.split()
    assert read == ["main.json", "old.json"]
