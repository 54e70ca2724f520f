"""``pyinfra inventory/builders.py deploys/build.py`` builds gateways, too, and its output holds no secret."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from fleetflash.firmware.store import Store
from tests.gateway_project import ROOT, GatewayProject


def test_deploy_builds_a_gateway_once_and_tells_what_it_can_not_build(tmp_path: Path) -> None:
    project = GatewayProject(tmp_path)
    for folder in ("deploys", "inventory", "roles"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    settings = {"station": {"ssid": "plant", "password": {"env": "GATEWAY_WIFI"}}}
    data = tmp_path / "group_data/builders.py"
    data.parent.mkdir()

    def deploy(**changed: object) -> "subprocess.CompletedProcess[str]":
        types = {"lyon": project.fields(settings=settings, **changed)}
        data.write_text(
            f"esp_idf = {{'5.3': {project.sdk.data!r}}}\nbuild_cache = 'cache'\ngateway_types = {types!r}\n"
        )
        pyinfra = Path(sys.executable).with_name("pyinfra")
        answer = subprocess.run(
            [pyinfra, "inventory/builders.py", "deploys/build.py", "-y", "-vvv", "--debug"],
            cwd=tmp_path,
            env={**os.environ, "FLEETFLASH_STORE": str(tmp_path / "store"), "GATEWAY_WIFI": "c4nary-wifi-password"},
            capture_output=True,
            text=True,
        )
        assert "c4nary" not in answer.stdout + answer.stderr and "Traceback" not in answer.stderr
        return answer

    first = deploy()
    assert first.returncode == 0, first.stderr
    assert "lyon: building v1.0.0-0-g" in first.stderr
    assert [artifact.version for artifact in Store(tmp_path / "store").find(name="tinybms-gateway")] == ["v1.0.0"]
    second = deploy()
    assert second.returncode == 0 and "No changes" in second.stderr and "building" not in second.stderr
    third = deploy(site="paris", site_settings={"kconfig": {"TINYBMS_CAN_TX_PIN": 5}})
    assert third.returncode != 0
    assert "CONFIG_TINYBMS_CAN_TX_PIN: asked for 5, became nothing (there is no such symbol" in third.stderr
