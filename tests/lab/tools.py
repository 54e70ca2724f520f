"""The tool virtualenv of a lab's host, with the esptool that the tests themselves have."""

import importlib.metadata
import io
import re
import subprocess
import tarfile

from fleetflash.lab.host import Host

TOOLS = "/var/lib/fleetflash/tools"


def install_esptool(host: Host, into: str) -> None:
    """Put esptool and what it needs into a directory of the host."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for distribution in _requirements("esptool", {}).values():
            for file in distribution.files or ():
                if not file.parts[0].startswith(".") and file.locate().is_file():
                    archive.add(file.locate(), str(file))
    command = [*host.ssh_command("root"), f"mkdir -p {into} && tar -x -C {into} --no-same-owner && sync {into}"]
    subprocess.run(command, input=packed.getvalue(), check=True, timeout=60)


def make_virtualenv(host: Host) -> None:
    """Make the virtualenv that the agent looks for."""
    host.run(f"sudo python3 -m venv --without-pip {TOOLS}", check=True)
    install_esptool(host, f"{TOOLS}/lib/python3.11/site-packages")


def _requirements(
    name: str, found: dict[str, importlib.metadata.Distribution]
) -> dict[str, importlib.metadata.Distribution]:
    """A distribution and, again and again, those it requires here."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return found
    if distribution.name not in found:
        found[distribution.name] = distribution
        for requirement in distribution.requires or ():
            if "extra ==" not in requirement:
                _requirements(re.split(r"[^\w.-]", requirement)[0], found)
    return found
