"""Which build of each type was the last: what changed in its configuration since is told before the next one."""

from pathlib import Path
from typing import Any

from fleetflash.build import kconfig
from fleetflash.build.builds import Builds
from fleetflash.build.kconfig import Change
from fleetflash.build.lock import held


class LastBuilds:
    """Keeps name of a type → key of its last build, one file each.

    + directory: of those files
    + builds: where the builds are
    + configuration: what each build's effective configuration is called there
    """

    def __init__(self, directory: Path, builds: Builds[Any], configuration: str) -> None:
        self.directory, self.builds, self.configuration = directory, builds, configuration

    def remember(self, name: str, key: str) -> None:
        last = self.directory / name
        if last.is_file() and last.read_text() == key:
            return
        last.parent.mkdir(parents=True, exist_ok=True)
        with held(last.parent / ".lock"):
            new = last.with_name(f".{last.name}.new")
            new.write_text(key)
            new.replace(last)

    def changes(self, name: str, effective: str) -> tuple[Change, ...]:
        """Return what differs between a type's last build and a configuration; nothing when there was none."""
        try:
            before = (self.builds.path((self.directory / name).read_text()) / self.configuration).read_text()
        except FileNotFoundError:
            return ()
        return tuple(kconfig.difference(kconfig.parse(before), kconfig.parse(effective)))
