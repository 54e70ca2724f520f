"""``pyinfra inventory/builders.py deploys/build.py`` builds what is missing, and nothing the second time."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fleetflash.firmware.store import Store
from tests.firmware_source import FirmwareSource

ROOT = Path(__file__).parents[2]
TOOLCHAINS = {"avr": {"version": "5", "debian": {"gcc-avr": "*", "binutils-avr": "*", "avr-libc": "*"}}}


def test_deploy_builds_each_board_type_once_and_tells_what_it_can_not_build(tmp_path: Path) -> None:
    for folder in ("deploys", "inventory", "roles", "templates"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    usual = {
        "chip": "atmega328p",
        "repository": str(FirmwareSource(tmp_path / "klipper").path),
        "ref": "v0.1.0",
        "toolchain": "avr",
    }
    types = {
        name: {**usual, "firmware": f"klipper-{name}", "kconfig": {"LOW_LEVEL_OPTIONS": True, "SERIAL_BAUD": baud}}
        for name, baud in (("slow", 38400), ("fast", 500000))
    }
    data = tmp_path / "group_data/builders.py"
    data.parent.mkdir()

    def deploy() -> "subprocess.CompletedProcess[str]":
        data.write_text(f"toolchains = {TOOLCHAINS!r}\nbuild_cache = 'cache'\nboard_types = {types!r}\n")
        pyinfra = Path(sys.executable).with_name("pyinfra")
        return subprocess.run(
            [pyinfra, "inventory/builders.py", "deploys/build.py", "-y"],
            cwd=tmp_path,
            env={**os.environ, "FLEETFLASH_STORE": str(tmp_path / "store")},
            capture_output=True,
            text=True,
        )

    first = deploy()
    assert first.returncode == 0, first.stderr
    assert first.stderr.count(": building v0.1.0-0-g") == 2
    assert [artifact.name for artifact in Store(tmp_path / "store").find()] == ["klipper-fast", "klipper-slow"]
    second = deploy()
    assert second.returncode == 0 and second.stderr.count("No changes") == 2
    assert "building" not in second.stderr
    types["fast"]["kconfig"] = {"SERIAL_BAUD": 500000}
    third = deploy()
    assert third.returncode != 0 and "Traceback" not in third.stderr
    assert "board type fast: Kconfig does not accept what was asked for: CONFIG_SERIAL_BAUD" in third.stderr
