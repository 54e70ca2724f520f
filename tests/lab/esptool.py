"""Espressif's command line as the judge: on a host of the lab, at its gateway's port."""

import base64
import hashlib
import json
from pathlib import Path

from fleetflash.lab.host import Host
from tests.lab.gateways import Gateways
from tests.lab.tools import TOOLS

#: Where the lab's partition table has NVS.
NVS, NVS_SIZE = 0x9000, 0x4000


class Esptool:
    """Espressif's command line, on a host of the lab and at its gateway's port."""

    def __init__(self, host: Host, fleet: Gateways) -> None:
        self._host = host
        self._port = fleet.inventory[host.name]["boards"]["gateway"]["port"]

    def put(self, data: bytes) -> str:
        """Bring a file to the host; return its name there."""
        name = f"/tmp/{hashlib.sha256(data).hexdigest()[:16]}.bin"
        self._host.run(f"base64 -d > {name}", stdin=base64.b64encode(data).decode(), check=True)
        return name

    def run(self, *arguments: str) -> str:
        command = f"sudo {TOOLS}/bin/python -m esptool --chip auto --port {self._port} --baud 460800"
        return self._host.run(f"{command} {' '.join(arguments)}", check=True).stdout

    def parts(self, build: Path) -> list[str]:
        """Bring the files of a ``flasher_args.json`` to the host; return each offset and name, as arguments."""
        files = json.loads(build.read_text())["flash_files"].items()
        return [word for offset, name in files for word in (offset, self.put((build.parent / name).read_bytes()))]

    def write(self, build: Path) -> None:
        self.run("write-flash", *self.parts(build))

    def read(self, offset: int, size: int) -> bytes:
        self.run("read-flash", hex(offset), hex(size), "/tmp/read.bin")
        return base64.b64decode(self._host.run("sudo base64 /tmp/read.bin", check=True).stdout)
