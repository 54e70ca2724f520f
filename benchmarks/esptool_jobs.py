"""esptool's own command line writing a simulated ESP32: beside the port, over the forwarded port, over RFC 2217."""

import os
import random
import re
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass

from fleetflash.lab.host import Host
from tests.lab.test_esp_board import ESPTOOL
from tests.lab.tools import install_esptool

OFFSET = 0x10000


@dataclass(frozen=True)
class EsptoolRun:
    """``written``: what esptool says that writing took; ``whole``: the process from its start to its end. Seconds."""

    written: float
    whole: float


def image(size: int) -> bytes:
    """Bytes that no board has yet and that deflate to three fifths, as applications do."""
    return b"".join(random.randbytes(614) + bytes(410) for _ in range(size // 1024))


def line_seconds(content: bytes, baud: int) -> float:
    """What the deflated content alone takes on the line: esptool's other words and pauses are not counted."""
    return len(zlib.compress(content, 9)) * 10 / baud


def install(host: Host) -> None:
    install_esptool(host, "/opt/esptool")
    host.run("python3 -m compileall -q /opt/esptool", user="root", check=True)


def beside_the_port(host: Host, device: str, content: bytes, baud: int) -> EsptoolRun:
    subprocess.run([*host.ssh_command(), "cat > app.bin"], input=content, check=True, timeout=60)
    words = f"--port {device} --baud {baud} write-flash {OFFSET:#x} app.bin"
    # Measured there: this computer's ssh is no part of it.
    run = host.run(f"bash -c 'time {ESPTOOL} {words}'", check=True, timeout=300)
    minutes, seconds = re.search(r"real\s+(\d+)m([\d.]+)s", run.stderr).groups()  # type: ignore[union-attr]
    return EsptoolRun(_written(run.stdout), 60 * int(minutes) + float(seconds))


def from_here(port: str, path: str, baud: int, before: str = "default-reset") -> EsptoolRun:
    """``port``: a URL. ``before``: how the chip gets into its loader.

    Over stock RFC 2217, DTR and RTS change too far apart for its reset circuit: there somebody must have held BOOT.
    """
    started = time.perf_counter()
    run = subprocess.run(
        [
            *(sys.executable, "-m", "esptool", "--port", port, "--before", before, "--baud", str(baud)),
            *("write-flash", hex(OFFSET), path),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
        timeout=600,
    )
    whole = time.perf_counter() - started
    if run.returncode or "Hash of data verified." not in run.stdout:
        raise RuntimeError(f"{port}: esptool failed: {run.stdout[-1000:]}")
    return EsptoolRun(_written(run.stdout), whole)


def _written(output: str) -> float:
    found = re.search(r"Wrote \d+ bytes .* in ([\d.]+) seconds", output)
    if not found:
        raise RuntimeError(f"esptool did not write: {output[-1000:]}")
    return float(found[1])
