"""A real sshd on 127.0.0.1 with keys and configuration of its own, for the time of a test."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import paramiko
import pytest

SSHD = "/usr/sbin/sshd"
needs_sshd = pytest.mark.skipif(not shutil.which(SSHD), reason="needs the package openssh-server")


class LoopbackSshd:
    """``config`` is an ssh_config that reaches it under the name ``printer``."""

    def __init__(self, directory: Path, options: str = "") -> None:
        self.directory = directory
        self.user = getpass.getuser()
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
        shutil.copy(directory / "user_key.pub", directory / "authorized_keys")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        # sshd's separation of privileges wants this directory, which the distribution's service makes at boot.
        # It stays: the sshd of a test that runs at the same time needs it for every connection.
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        (directory / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {directory}/host_key\n"
            f"AuthorizedKeysFile {directory}/authorized_keys\nPidFile none\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            f"MaxStartups 100\nLogLevel VERBOSE\n{options}\n"
        )
        self.known_hosts = directory / "known_hosts"
        host_key = (directory / "host_key.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {' '.join(host_key)}\n")
        self.config = directory / "ssh_config"
        self.write_config()
        self.log = directory / "sshd.log"
        self.process = subprocess.Popen([SSHD, "-D", "-E", self.log, "-f", directory / "sshd_config"])
        self._wait()

    def write_config(self, extra: str = "") -> None:
        self.config.write_text(
            f"Host printer\n  HostName 127.0.0.1\n  Port {self.port}\n  User {self.user}\n"
            f"  IdentityFile {self.directory}/user_key\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile /dev/null\n{extra}\n"
        )

    def _wait(self) -> None:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"sshd did not start: {self.log.read_text()}")

    def transport(self) -> paramiko.Transport:
        transport = paramiko.Transport(socket.create_connection(("127.0.0.1", self.port), 10))
        key = paramiko.Ed25519Key.from_private_key_file(str(self.directory / "user_key"))
        transport.connect(username=self.user, pkey=key)
        return transport

    def commands_run(self) -> int:
        return self.log.read_text().count("Starting session: command")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
