"""The site part of a farm as an Ansible playbook: ansible-core in its own virtualenv, and what the playbook sees."""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm import Farm

from fleetflash.host_state import read_installation, read_instance
from fleetflash.lab.recipe import PYTHON
from tests.lab.fleet import CHIP, ROOT

REQUIREMENT = "ansible-core>=2.19,<2.20"
PLAYBOOK = Path(__file__).with_name("ansible")
_RECAP = re.compile(r"^(\S+)\s*: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Recap:
    """How many tasks changed something, and how many hosts were unreachable or failed."""

    hosts: int
    changed: int
    failed: int


class AnsibleSite:
    """``command`` runs the playbook for some of a farm's hosts, all by default."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.directory = farm.directory / "ansible"
        self.directory.mkdir()
        self.program = self._install()
        self.environment = {
            "ANSIBLE_CONFIG": str(PLAYBOOK / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.directory / "home"),
            "ANSIBLE_LOCAL_TEMP": str(self.directory / "tmp"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.directory / "cp"),
        }
        self.variables = self.directory / "variables.json"
        self.variables.write_text(json.dumps(self._variables()))

    def command(self, *names: str) -> list[str]:
        inventory = self.directory / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": {name: self._host(name) for name in self.farm.inventory}}}))
        limit = ["--limit", ",".join(names)] if names else []
        extra = ["--extra-vars", f"@{self.variables}"]
        return [str(self.program), "-i", str(inventory), *limit, *extra, str(PLAYBOOK / "site.yml")]

    def run(self, *names: str) -> str:
        """Run the playbook and return what it printed; raises ``RuntimeError`` when it fails."""
        answer = subprocess.run(
            self.command(*names),
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if answer.returncode:
            raise RuntimeError(f"ansible-playbook exits {answer.returncode}:\n{answer.stdout}")
        return answer.stdout

    def _install(self) -> Path:
        environment = self.directory / "environment"
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        pip = [environment / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, REQUIREMENT], check=True)
        return environment / "bin/ansible-playbook"

    def _host(self, name: str) -> dict[str, Any]:
        entry = self.farm.inventory[name]
        return {
            "ansible_host": entry["ssh_hostname"],
            "ansible_user": entry["ssh_user"],
            "ansible_ssh_private_key_file": entry["ssh_key"],
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={entry['ssh_known_hosts_file']}",
            "boards": entry["boards"],
        }

    def _variables(self) -> dict[str, Any]:
        entry = next(iter(self.farm.inventory.values()))
        data = {"klipper_service": "klipper.service", **entry}
        installation = read_installation(data)
        assert installation is not None and installation.moonraker is not None
        instance = read_instance(data, installation)
        source = self.farm.source
        bundle = self.directory / "klipper.bundle"
        source.git("bundle", "create", "--quiet", str(bundle), installation.ref)
        rule = "# Written by fleetflash. Whoever may run Python as root is root.\n"
        kinds = (("klippy-env", "klipper.service"), ("moonraker-env", "moonraker.service"))
        return {
            "login": installation.user,
            "account": installation.user,
            "home": installation.home,
            "groups_of_user": list(installation.groups),
            "packages": list(installation.packages),
            "sudoers": f"{rule}{installation.user} ALL=(root) NOPASSWD: /usr/bin/python3\n",
            "commit": source.git("rev-parse", f"{installation.ref}^0"),
            "repository": installation.repository,
            "bundle": str(bundle),
            "environments": [_environment(name, service, source.environments[name]) for name, service in kinds],
            "instance": {
                "service": instance.service,
                "moonraker_service": instance.moonraker_service,
                "moonraker_port": instance.moonraker_port,
                "number": instance.number,
                "data": instance.data,
                "config": instance.config,
                "socket": instance.socket,
            },
            "units": str(ROOT / "templates"),
            "chip": CHIP,
        }


def recap(output: str) -> Recap:
    """Read the end of a playbook's output; raises ``RuntimeError`` when it has none."""
    found = _RECAP.findall(output)
    if not found:
        raise RuntimeError(f"ansible-playbook did not come to its end:\n{output}")
    changed = sum(int(changed) for _, changed, _, _ in found)
    failed = sum(bool(int(unreachable) + int(failed)) for _, _, unreachable, failed in found)
    return Recap(len(found), changed, failed)


def _environment(name: str, service: str, source: dict[str, str]) -> dict[str, str]:
    made_of = [Path(source["requirements"]).read_text(), PYTHON, platform.machine()]
    key = hashlib.sha256("\0".join(made_of).encode()).hexdigest()
    return {"name": name, "service": service, "key": key, **source}
