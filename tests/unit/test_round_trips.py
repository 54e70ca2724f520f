"""What a forwarded port asks of a link, counted on one: far away, every round trip is felt."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
from loopback_ssh import LoopbackSshd, needs_sshd
from pseudo_terminal import PseudoTerminal

from benchmarks.delayed_link import DelayedLink
from fleetflash.link import pyserial_hook
from fleetflash.link.port import RemotePort
from fleetflash.link.session import AgentSession
from fleetflash.link.ssh import connect

pytestmark = needs_sshd

#: Long enough that nothing which waits for an answer counts as one with what was sent before, in seconds.
ROUND_TRIP = 0.03


@pytest.fixture
def link(sshd: LoopbackSshd) -> Iterator[DelayedLink]:
    with DelayedLink(("127.0.0.1", sshd.port), ROUND_TRIP) as link:
        yield link


@pytest.fixture
def config(sshd: LoopbackSshd, link: DelayedLink, tmp_path: Path) -> Path:
    """An ssh_config that reaches the host over the slow link."""
    path, known_hosts = tmp_path / "ssh_config", tmp_path / "known_hosts"
    known_hosts.write_text(sshd.known_hosts.read_text().replace(str(sshd.port), str(link.port)))
    words = sshd.config.read_text().replace(str(sshd.known_hosts), str(known_hosts))
    path.write_text(words.replace(f"Port {sshd.port}", f"Port {link.port}"))
    return path


def test_opening_a_forwarded_port_takes_three_round_trips(
    link: DelayedLink, config: Path, terminal: PseudoTerminal
) -> None:
    with connect("printer", ssh_config=config) as connection:
        before = link.round_trips
        with AgentSession(connection.transport, "printer", ["serve"]) as session:
            port = RemotePort.open(session, "printer", terminal.path)
            assert link.round_trips - before <= 3
            port.close()


@pytest.fixture
def port(config: Path, terminal: PseudoTerminal) -> Iterator[Any]:
    pyserial_hook.register(serial)
    with serial.serial_for_url(f"fleetflash://printer{terminal.path}?ssh_config={config}", timeout=5) as port:
        yield port


def test_data_costs_one_round_trip_there_and_back_however_much_it_is(
    link: DelayedLink, port: Any, terminal: PseudoTerminal
) -> None:
    terminal.echo()
    for size in (1, 2000):
        before = link.round_trips
        port.write(bytes(size))
        assert port.read(size) == bytes(size)
        assert link.round_trips - before == 1


def test_a_timeout_costs_nothing_lines_wait_for_nothing_and_a_rate_waits_once(
    link: DelayedLink, port: Any, terminal: PseudoTerminal
) -> None:
    port.flush()  # what opening has left on its way has arrived
    carried, before = link.carried, link.round_trips
    port.timeout, port.write_timeout = 0.5, 3
    assert link.carried == carried
    port.dtr, port.rts = False, True
    port.reset_input_buffer()
    assert link.round_trips == before
    port.baudrate = 921600
    assert link.round_trips - before <= 1 and terminal.speed() == 921600
