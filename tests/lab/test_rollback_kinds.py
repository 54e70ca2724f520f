"""A farm of boards of three kinds goes from v1 to v2 and back in one command each, and what nobody has registered comes
from the printer's own disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetflash.lab.bench import default_hosts
from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab, leftovers
from fleetflash.lab.spec import BoardSpec, HostSpec
from tests.lab.conftest import full_only, lab_name, require_lab
from tests.lab.fleet import FACTORY, PORT, WANTED, Fleet, flash_holds, mcu_version
from tests.lab.kinds import KINDS, UID, Kind

pytestmark = [pytest.mark.lab, full_only]

STM32, AVR = KINDS["stm32-rom"], KINDS["optiboot"]
#: The boards that are no BMCU-C, by printer and name.
OTHERS: dict[str, dict[str, Kind]] = {"stm32": {"main": STM32}, "mixed": {"main": STM32, "old": AVR}}
PIN, ROLLBACK = f'firmware_version="{FACTORY}"', "deploys/rollback.py"
HELD = 4


class Farm(Fleet):
    """Six printers with eight boards of three kinds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind in (STM32, AVR):
            self.register(kind, FACTORY, WANTED)
        for host in self.lab.hosts:
            if host.name in OTHERS:
                self._bring_to_factory(host)

    def register(self, kind: Kind, *versions: str, store: str = "") -> None:
        for version in versions:
            path = self.directory / f"{kind.chip}-{version}.bin"
            path.write_bytes(kind.image(version))
            add = ["artifact", "add", str(path), "--chip", kind.chip, "--name", kind.chip]
            added = self.fleetflash(*add, *(["--store", store] if store else []))
            assert added.code == 0, added.output

    def describe(self, host: Host, **boards: dict[str, Any]) -> dict[str, Any]:
        described = super().describe(host, **boards)
        for number, (name, kind) in enumerate(OTHERS.get(host.name, {}).items(), 1):
            described["boards"][name] = {
                "port": PORT.format(number),
                "klippy_mcu": "mcu" if number == 1 else name,
                "chip": kind.chip,
                "programmer": kind.programmer,
                "firmware": kind.chip,
                **({"wiring": kind.wiring} if kind.wiring else {}),
            }
        return described

    def _bring_to_factory(self, host: Host) -> None:
        host.run("sudo systemctl stop klipper", check=True)
        for name, kind in OTHERS[host.name].items():
            host.unplug(name)
            host.board(name).make(kind.factory(FACTORY))
            host.plug(name)
        host.run("sudo systemctl start klipper", check=True)
        host.wait_klippy("ready", 60.0)

    def problem(self, version: str) -> str:
        """Say which board does not hold and run a version."""
        for host in self.lab.hosts:
            host.wait_klippy("ready", 30.0)
            for board in host.boards:
                kind = OTHERS.get(host.name, {}).get(board.spec.name)
                image = kind.image(version) if kind else self.lab.image(version).read_bytes()
                ran = mcu_version(host, board.spec.mcu)
                if ran != version or not flash_holds(host, board.spec.name, image, kind.offset if kind else 0):
                    return f"{host.name}/{board.spec.name} runs {ran}"
        return ""

    def traces(self) -> list[str]:
        """What a restart or a transaction would change: processes, and what has ever run on each printer."""
        look = "systemctl show -P MainPID klipper moonraker; ls /var/lib/fleetflash/transactions"
        return [host.run(look, check=True).stdout for host in self.lab.hosts]


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    require_lab()
    others = [
        HostSpec("stm32", (BoardSpec("main", kind=STM32.simulated, uid=UID),)),
        HostSpec(
            "mixed",
            (BoardSpec("main", kind=STM32.simulated, uid=UID), BoardSpec("old", mcu="old", kind=AVR.simulated)),
        ),
    ]
    name, subnet = lab_name()
    network, _, number = subnet.rpartition(".")
    # Nobody is there for printer-3, whose board has a button.
    printers = [host for host in default_hosts(6) if host.name in ("printer-1", "printer-2", "printer-4", "printer-6")]
    with Lab.up(f"{name}-farm", (*printers, *others), f"{network}.{int(number) + 3}", wait_klippy=90.0) as lab:
        yield Farm(lab, tmp_path_factory.mktemp("farm"))
    assert leftovers(lab.layout) == []


def test_farm_of_three_kinds_goes_to_v2_back_to_v1_stays_there_and_goes_on(farm: Farm) -> None:
    inventory = farm.write_inventory(printer_2={"policy": "exact"}, mixed={"policy": "exact"})
    forward = farm.pyinfra(inventory)
    assert forward.code == 0 and "8 boards: 8 flashed" in forward.output, forward.output
    assert farm.problem(WANTED) == ""
    back = farm.pyinfra(inventory, PIN, deploy=ROLLBACK)
    assert back.code == 0 and "8 boards: 8 flashed" in back.output, back.output
    assert farm.problem(FACTORY) == ""
    traces = farm.traces()
    again = farm.pyinfra(inventory, PIN, deploy=ROLLBACK)
    assert again.code == 0 and "8 boards: 8 already current" in again.output
    held = farm.pyinfra(inventory)
    assert held.code == HELD and "8 boards: 8 held" in held.output
    assert held.line("mixed/old: held:", FACTORY, WANTED, "fleetflash hold clear INVENTORY mixed old")
    assert farm.traces() == traces
    for host in farm.lab.hosts:
        assert farm.fleetflash("hold", "clear", str(inventory), host.name).code == 0
    on = farm.pyinfra(inventory)
    assert on.code == 0 and "8 boards: 8 flashed" in on.output, on.output
    assert farm.problem(WANTED) == ""


def test_firmware_that_nobody_has_registered_comes_back_from_the_printers_own_disk(farm: Farm, tmp_path: Path) -> None:
    """It was read back before the first erase; the controller has nothing but the new one."""
    host = farm.lab.host("stm32")
    host.run("sudo rm -rf /var/lib/fleetflash", check=True)
    farm._bring_to_factory(host)
    store = str(tmp_path / "store")
    farm.register(STM32, WANTED, store=store)
    inventory = farm.write_inventory(host.name)
    assert farm.pyinfra(inventory, store=store).code == 0
    assert mcu_version(host) == WANTED
    back = farm.pyinfra(inventory, "to=previous", deploy=ROLLBACK, store=store)
    assert back.code == 0 and back.line("stm32", "main", FACTORY, "flashed"), back.output
    host.wait_klippy("ready", 30.0)
    assert mcu_version(host) == FACTORY and flash_holds(host, "main", STM32.image(FACTORY))
    again = farm.pyinfra(inventory, "to=previous", deploy=ROLLBACK, store=store)
    assert again.code == 0 and "1 board: 1 already current" in again.output
