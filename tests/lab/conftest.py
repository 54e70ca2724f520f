"""Fixtures of the lab tests: one lab of real hosts a module that asks for it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetflash.lab.bench import default_hosts
from fleetflash.lab.lab import Lab, leftovers
from tests.lab.fleet import Fleet


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The six printers of the demonstration and two more, the last one far away."""
    if os.geteuid() != 0 or not shutil.which("systemd-nspawn"):
        pytest.skip("needs root and systemd-container")
    directory: Path = tmp_path_factory.mktemp("fleet")
    # Two test runs at once need labs of their own.
    name, subnet = os.environ.get("FLEETFLASH_TEST_LAB", "test-fleet=10.78.0").split("=")
    with Lab.up(name, default_hosts(8, {"printer-8": 80.0}), subnet, wait_klippy=60.0) as lab:
        yield Fleet(lab, directory)
    assert leftovers(lab.layout) == []
