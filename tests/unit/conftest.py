"""Fixtures of several unit tests: an SSH server on this machine, and a port with both ends at hand."""

from collections.abc import Iterator

import pytest
from loopback_ssh import LoopbackSshd
from pseudo_terminal import PseudoTerminal


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


@pytest.fixture
def terminal() -> Iterator[PseudoTerminal]:
    with PseudoTerminal() as terminal:
        yield terminal
