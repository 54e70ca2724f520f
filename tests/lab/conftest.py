"""Fixtures of the lab tests: one lab of real hosts a module that asks for it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetflash.lab.bench import default_hosts
from fleetflash.lab.lab import Lab, leftovers
from tests.lab.fleet import Fleet

#: What ``make test-full`` adds: one more of a kind, or minutes long.
FULL = os.environ.get("FLEETFLASH_MATRIX") == "full"
full_only = pytest.mark.skipif(not FULL, reason="part of make test-full")
#: These take minutes: with several workers they must not begin last.
LONG = (
    *("test_matrix.py", "test_gateways.py", "test_death.py", "test_programmers.py", "test_site.py", "test_exact.py"),
    *("test_hands.py", "test_chaos.py", "test_flash.py", "test_dropped_link.py", "test_port_by_hand.py"),
    *("test_linux_process.py", "test_refusals.py", "test_rollout.py", "test_attention.py", "test_gateway_faults.py"),
    "test_gateway_erase.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def require_lab() -> None:
    """Skip the test where no lab can be brought up."""
    if os.geteuid() != 0 or not shutil.which("systemd-nspawn"):
        pytest.skip("needs root and systemd-container")


def lab_name() -> tuple[str, str]:
    """Return the lab's name and its subnet; two test runs at once, and each of pytest's workers, need their own."""
    name, subnet = os.environ.get("FLEETFLASH_TEST_LAB", "tests=10.78.0").split("=")
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    network, _, number = subnet.rpartition(".")
    return (f"{name}-{worker}" if worker else name), f"{network}.{int(number) + 10 * worker}"


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The six printers of the demonstration and two more, the last one far away."""
    require_lab()
    directory: Path = tmp_path_factory.mktemp("fleet")
    name, subnet = lab_name()
    with Lab.up(name, default_hosts(8, {"printer-8": 80.0}), subnet, wait_klippy=60.0) as lab:
        yield Fleet(lab, directory)
    assert leftovers(lab.layout) == []
