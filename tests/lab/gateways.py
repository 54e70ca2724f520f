"""Gateways of the tests: printers' hosts and a host of its own, each with an ESP board, and builds for them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleetflash.lab.esp_image import build_app, build_layout, write_build
from fleetflash.lab.host import Host
from fleetflash.lab.lab import Lab, leftovers
from fleetflash.lab.spec import BoardSpec, HostSpec
from tests.lab.fleet import FACTORY, NEXT, WANTED, Fleet, Run
from tests.lab.tools import make_virtualenv

MAC = "240ac400cafe"
APP = 0x10000
APP_SIZE = 0x14000


class Gateways(Fleet):
    """``printer-1`` has a BMCU-C and an ESP32, ``printer-2`` the same without esptool, ``desk`` a gateway alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for version in (FACTORY, WANTED, NEXT):
            described = self.build("esp32", version)
            add = ["artifact", "add", str(described), "--chip", "esp32", "--name", "gateway"]
            added = self.fleetflash(*add, *(["--label", "factory"] if version == FACTORY else []))
            assert added.code == 0, added.output
        (self.directory / "desk").mkdir()
        for version in (WANTED, NEXT):
            described = self.build("esp32s3", version)
            add = ["artifact", "add", str(described), "--chip", "esp32s3", "--name", "tinybms-gateway"]
            assert self.fleetflash(*add, "--store", str(self.directory / "desk")).code == 0

    def build(self, kind: str, version: str) -> Path:
        """What ESP-IDF leaves in a build directory; its ``flasher_args.json``."""
        layout = build_layout(kind, {"factory": build_app(kind, version, size=APP_SIZE)})
        return write_build(self.directory / f"{kind}-{version}", layout)

    def describe(self, host: Host, **boards: dict[str, Any]) -> dict[str, Any]:
        described = super().describe(host, **boards)
        if host.name == "desk":
            described["boards"]["gateway"] = {"port": described["boards"]["gateway"]["port"], "chip": "esp32s3"}
            return described
        gateway = described["boards"]["gateway"]
        gateway.update({"chip": "esp32", "programmer": "esptool", "firmware": "gateway"})
        gateway.pop("klippy_mcu")
        gateway.pop("wiring")
        return described

    def pinned(self, host: str, version: str, **gateway: Any) -> Path:
        """An inventory of one host, its gateway pinned to a version."""
        boards = self.inventory[host]["boards"]
        changed = {**boards, "gateway": {**boards["gateway"], "firmware_version": version, **gateway}}
        return self.write_inventory(host, **{host.replace("-", "_"): {"boards": changed}})

    def desk(self, version: str, *data: str, deploy: str = "deploys/flash.py") -> Run:
        """Flash the gateway without a printer, as its group's data say; its store has no factory image."""
        path = self.directory / f"desk-{version}.py"
        path.write_text(f"gateways = {[('desk', {**self.inventory['desk'], 'firmware_version': version})]!r}\n")
        return self.pyinfra(path, *data, deploy=deploy, store=str(self.directory / "desk"))

    def flash(self, host: str, version: str, *data: str, **gateway: Any) -> Run:
        return self.pyinfra(self.pinned(host, version, **gateway), *data)


@contextmanager
def gateways(name: str, subnet: str, directory: Path) -> Iterator[Gateways]:
    """A lab with the three hosts."""
    boards = (BoardSpec("bmcu"), BoardSpec("gateway", mcu="", kind="esp32", uid=MAC))
    alone = (BoardSpec("gateway", mcu="", kind="esp32s3", uid=MAC),)
    hosts = (HostSpec("printer-1", boards), HostSpec("printer-2", boards), HostSpec("desk", alone))
    with Lab.up(name, hosts, subnet) as lab:
        for printer in ("printer-1", "printer-2"):
            lab.host(printer).wait_klippy("ready", 90.0)
        desk = lab.host("desk")
        desk.run("sudo systemctl disable --now klipper moonraker", check=True)
        desk.run("sudo rm /etc/systemd/system/klipper.service && sudo systemctl daemon-reload", check=True)
        for host in (lab.host("printer-1"), desk):
            make_virtualenv(host)
            host.run("sudo sync", check=True)
        yield Gateways(lab, directory)
    assert leftovers(lab.layout) == []


def status(host: Host) -> dict[str, Any]:
    """What the simulated gateway says of itself."""
    found: dict[str, Any] = host.board("gateway").control.status()
    return found
