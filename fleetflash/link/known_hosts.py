"""Which host keys are trusted: the known_hosts files, and what ssh_config says of hosts that are not in them."""

from pathlib import Path
from typing import Any

import paramiko

from fleetflash.link.errors import HostKeyError

_USER_FILES = "~/.ssh/known_hosts ~/.ssh/known_hosts2"
_GLOBAL_FILES = "/etc/ssh/ssh_known_hosts"


def prepare(client: paramiko.SSHClient, host: str, options: dict[str, Any]) -> None:
    """Have ``client`` judge the key of ``host`` by ssh_config's ``options``."""
    user_files = _files(options.get("userknownhostsfile", _USER_FILES))
    for file in (*user_files, *_files(options.get("globalknownhostsfile", _GLOBAL_FILES))):
        if file.is_file():
            client.load_system_host_keys(str(file))
    checking = str(options.get("stricthostkeychecking", "yes")).lower()
    if checking in ("no", "off"):
        client.set_missing_host_key_policy(_AcceptPolicy())
    elif checking == "accept-new":
        client.set_missing_host_key_policy(_RememberPolicy(user_files[0]))
    else:
        client.set_missing_host_key_policy(_RefusePolicy(host, user_files[0]))


def _files(words: Any) -> list[Path]:
    return [Path(word).expanduser() for word in str(words).split()]


class _AcceptPolicy(paramiko.MissingHostKeyPolicy):
    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        pass


class _RememberPolicy(paramiko.MissingHostKeyPolicy):
    """Appends the key; paramiko's own policy would rewrite the file without its comments."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._file.open("a") as file:
            file.write(f"{hostname} {key.get_name()} {key.get_base64()}\n")


class _RefusePolicy(paramiko.MissingHostKeyPolicy):
    def __init__(self, host: str, file: Path) -> None:
        self._host = host
        self._file = file

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        name, _, port = hostname.lstrip("[").partition("]:")
        scan = f"ssh-keyscan {f'-p {port} ' if port else ''}{name} >> {self._file}"
        raise HostKeyError(
            f"{self._host}: its {key.get_name()} key {key.fingerprint} is not in {self._file}; compare it with "
            f"`ssh-keygen -l` on the host, then run `{scan}`"
        )
