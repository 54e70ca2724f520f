"""inventory/lab.py, which users read first, describes the lab that ``fleetflash lab up`` boots."""

import runpy
from pathlib import Path
from typing import Any

from fleetflash.lab.bench import default_hosts, gateway_hosts
from fleetflash.lab.klipper import board_path
from fleetflash.lab.layout import Layout
from fleetflash.lab.spec import LabSpec

ROOT = Path(__file__).parents[2]


def test_it_names_every_host_board_and_port_and_nothing_else() -> None:
    said: dict[str, Any] = runpy.run_path(str(ROOT / "inventory/lab.py"))
    spec = LabSpec((*default_hosts(6), *gateway_hosts()))
    hosts = [*said["klipper_hosts"], *said["gateways"]]
    assert [(name, data["ssh_hostname"]) for name, data in hosts] == [
        (host.name, spec.address(host.name)) for host in spec.hosts
    ]
    assert {data["ssh_key"] for _, data in hosts} == {str(Layout("lab").key)}
    for (name, data), host in zip(hosts, spec.hosts, strict=True):
        assert list(data["boards"]) == [board.name for board in host.boards], name
        for described, board in zip(data["boards"].values(), host.boards, strict=True):
            assert described["port"] == f"/dev/serial/by-path/{board_path(host.boards, board)}"
            assert described.get("entry", "auto") == board.entry
            if host.bare:
                assert described.get("chip", "esp32") == board.kind
                assert board.options[:2] == ("--equipment", f"sd={described['equipment']['sd']}")
                placed = spec.placed(Layout("lab").board).hosts[spec.index(name)].boards[0].options
                told = dict(zip(placed[::2], placed[1::2], strict=True))
                checks = described["checks"]
                assert checks["can"] == {"log": told["--candump"]}
                assert ("http" in checks) == ("mqtt" in checks) == ("--http" in told)
                if "http" in checks:
                    assert checks["http"]["api"]["url"] == "http://{address}:8081/api/status"
                    assert told["--http"] == f"{described['address']}:8081"
                    assert (f"{checks['mqtt']['broker']}:1883", "bms/desk-1") == (told["--mqtt"], told["--topic"])
            else:
                assert described.get("klippy_mcu", "mcu") == board.mcu
