"""Debian's mosquitto on a port of its own, for the time of a test."""

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from paho.mqtt import publish

MOSQUITTO = "/usr/sbin/mosquitto"
needs_mosquitto = pytest.mark.skipif(not shutil.which(MOSQUITTO), reason="needs the package mosquitto")
USER, PASSWORD = "checker", "correct horse battery"


class Broker:
    """Lets ``USER`` in with ``PASSWORD``, and nobody else."""

    def __init__(self, directory: Path) -> None:
        passwords = directory / "passwords"
        passwords.touch(0o600)
        subprocess.run(["mosquitto_passwd", "-b", passwords, USER, PASSWORD], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        configuration = directory / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
        )
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", configuration], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("mosquitto did not start")

    def publish(self, topic: str, payload: str, retain: bool = False) -> None:
        publish.single(
            topic,
            payload,
            retain=retain,
            hostname="127.0.0.1",
            port=self.port,
            auth={"username": USER, "password": PASSWORD},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(10)
