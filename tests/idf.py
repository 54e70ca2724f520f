"""A small ESP-IDF and a gateway project for it, each in a place of its own that a test may change."""

import hashlib
import json
import os
import shlex
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

from tests.firmware_source import FirmwareSource

TESTS = Path(__file__).parent
#: What `make` installs apart from the virtualenv, as ESP-IDF has it in an environment of its own.
KCONFIG = Path(os.environ.get("FLEETFLASH_TEST_KCONFIG", Path(sys.prefix) / "esp-idf"))


class Sdk:
    """ESP-IDF below a directory, as its ``install.sh`` leaves it. ``data``: its entry in ``esp_idf``."""

    def __init__(self, directory: Path) -> None:
        self.path, self.tools = directory / "esp-idf", directory / "espressif"
        shutil.copytree(TESTS / "idf_sdk", self.path, ignore=shutil.ignore_patterns("__pycache__"))
        bin = self.tools / "python_env/bin"
        bin.mkdir(parents=True)
        self.program(bin / "python", f'PYTHONPATH={shlex.quote(str(KCONFIG))} exec {shlex.quote(sys.executable)} "$@"')

    @property
    def data(self) -> dict[str, Any]:
        return {"version": "v5.3.1", "path": str(self.path), "tools_path": str(self.tools)}

    def program(self, path: Path, script: str) -> None:
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


class PackedSdk:
    """The same as an archive, as it is released: nothing of it is installed. ``data``: its entry in ``esp_idf``."""

    def __init__(self, directory: Path) -> None:
        tree = directory / "esp-idf-v5.3.1"
        shutil.copytree(TESTS / "idf_sdk", tree, ignore=shutil.ignore_patterns("__pycache__"))
        # Where ESP-IDF has its requirements, this has the place of the packages that meet them.
        (tree / "tools/packages.json").write_text(json.dumps({"python": sys.executable, "path": str(KCONFIG)}))
        self.path = directory / "esp-idf-v5.3.1.tar.gz"
        with tarfile.open(self.path, "w:gz") as archive:
            archive.add(tree, tree.name)
        self.sha256 = hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def data(self) -> dict[str, Any]:
        return {"version": "v5.3.1", "archive": {"urls": self.path.as_uri(), "sha256": self.sha256}}


class GatewaySource(FirmwareSource):
    """The gateway project as a git repository; its first commit is tagged ``v1.0.0``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, TESTS / "idf_project", "v1.0.0")
