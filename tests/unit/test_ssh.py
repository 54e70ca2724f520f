import getpass
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_ssh import LoopbackSshd, needs_sshd

from fleetflash.link import ssh
from fleetflash.link.errors import HostKeyError, LoginError, UnreachableError
from fleetflash.link.session import AgentSession

pytestmark = needs_sshd


@pytest.fixture(scope="module")
def module_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


@pytest.fixture
def sshd(module_sshd: LoopbackSshd) -> Iterator[LoopbackSshd]:
    known = module_sshd.known_hosts.read_text()
    yield module_sshd
    module_sshd.known_hosts.write_text(known)
    module_sshd.write_config()


def ask_agent(connection: ssh.SshConnection) -> None:
    with AgentSession(connection.transport, connection.host, ["serve"]) as agent:
        agent.send({"type": "open", "port": "/dev/none"})
        assert agent.receive(10)


def test_an_alias_of_ssh_config_is_enough(sshd: LoopbackSshd) -> None:
    with ssh.connect("printer", ssh_config=sshd.config) as connection:
        assert connection.transport.is_authenticated()
        ask_agent(connection)


def test_the_environment_names_the_config(sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ssh.CONFIG_VARIABLE, str(sshd.config))
    ssh.connect("printer").close()


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=f"{tmp_path}/none: no such ssh_config"):
        ssh.connect("printer", ssh_config=tmp_path / "none")


def test_an_unknown_host_key_is_refused_with_what_to_do(sshd: LoopbackSshd) -> None:
    sshd.known_hosts.write_text("")
    with pytest.raises(HostKeyError) as caught:
        ssh.connect("printer", ssh_config=sshd.config)
    text = str(caught.value)
    assert text.startswith("printer: its ssh-ed25519 key SHA256:")
    assert f"ssh-keyscan -p {sshd.port} 127.0.0.1 >> {sshd.known_hosts}" in text


@pytest.mark.parametrize(("checking", "remembered"), [("accept-new", True), ("no", False)])
def test_unknown_keys_are_taken_only_when_ssh_config_says_so(
    sshd: LoopbackSshd, checking: str, remembered: bool
) -> None:
    sshd.known_hosts.write_text("# mine\n")
    sshd.write_config(f"  StrictHostKeyChecking {checking}")
    ssh.connect("printer", ssh_config=sshd.config).close()
    lines = sshd.known_hosts.read_text().splitlines()
    assert lines[0] == "# mine" and (len(lines) == 2) == remembered
    sshd.write_config()
    if remembered:
        ssh.connect("printer", ssh_config=sshd.config).close()


@pytest.mark.parametrize("checking", ["yes", "accept-new", "no"])
def test_a_changed_host_key_is_always_refused(sshd: LoopbackSshd, checking: str) -> None:
    other = (sshd.directory / "user_key.pub").read_text().split()[:2]
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {' '.join(other)}\n")
    sshd.write_config(f"  StrictHostKeyChecking {checking}")
    with pytest.raises(HostKeyError, match="another machine, or a new installation"):
        ssh.connect("printer", ssh_config=sshd.config)


def test_host_key_alias_is_looked_up(sshd: LoopbackSshd) -> None:
    key = (sshd.directory / "host_key.pub").read_text().split()[:2]
    sshd.known_hosts.write_text(f"the-printer {' '.join(key)}\n")
    sshd.write_config("  HostKeyAlias the-printer")
    ssh.connect("printer", ssh_config=sshd.config).close()


def test_a_refused_key_is_named(sshd: LoopbackSshd) -> None:
    config = sshd.config.read_text().replace("user_key", "host_key")
    sshd.config.write_text(config)
    with pytest.raises(LoginError, match=r"printer \(127.0.0.1:\d+\): refused every key .*ssh-copy-id"):
        ssh.connect("printer", ssh_config=sshd.config)


def test_a_host_that_is_off_is_named(sshd: LoopbackSshd) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError, match=r"printer \(127.0.0.1:\d+\): no SSH connection .*refused"):
            ssh.connect("printer", port=probe.getsockname()[1], ssh_config=sshd.config)


@pytest.mark.parametrize("words", ["printer", "printer,printer2"])
def test_jump_hosts_are_used(sshd: LoopbackSshd, words: str) -> None:
    again = sshd.config.read_text()
    sshd.config.write_text(
        again
        + again.replace("Host printer", "Host printer2")
        + again.replace("Host printer", "Host far")
        + f"  ProxyJump {words}\n"
    )
    before = sshd.log.read_text().count("Accepted publickey")
    with ssh.connect("far", ssh_config=sshd.config) as connection:
        ask_agent(connection)
    assert sshd.log.read_text().count("Accepted publickey") == before + 1 + len(words.split(","))


def test_a_jump_host_that_does_not_reach_the_host_is_named(sshd: LoopbackSshd) -> None:
    own = sshd.config.read_text()
    sshd.config.write_text(own + "Host far\n  HostName 127.0.0.1\n  Port 1\n  ProxyJump printer\n")
    with pytest.raises(UnreachableError, match=r"far \(127.0.0.1:1\): the jump host printer does not reach it"):
        ssh.connect("far", ssh_config=sshd.config)


def test_jumps_in_a_circle_end(sshd: LoopbackSshd) -> None:
    sshd.config.write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    with pytest.raises(UnreachableError, match="ProxyJump leads in a circle: a -> b -> a"):
        ssh.connect("a", ssh_config=sshd.config)


def test_proxy_command_is_used(sshd: LoopbackSshd, tmp_path: Path) -> None:
    relay = tmp_path / "relay.py"
    relay.write_text(
        "import os,select,socket,sys\n"
        f"s=socket.create_connection(('127.0.0.1',{sshd.port}))\n"
        "while True:\n"
        "    for f in select.select([s,0],[],[])[0]:\n"
        "        d=s.recv(65536) if f is s else os.read(0,65536)\n"
        "        if not d: sys.exit()\n"
        "        os.write(1,d) if f is s else s.sendall(d)\n"
    )
    sshd.write_config(f"  ProxyCommand python3 {relay}")
    with ssh.connect("printer", ssh_config=sshd.config) as connection:
        ask_agent(connection)


def test_what_is_passed_goes_before_what_is_configured(sshd: LoopbackSshd) -> None:
    sshd.config.write_text(sshd.config.read_text().replace(f"User {sshd.user}", "User nobody-at-all"))
    with pytest.raises(LoginError, match="ssh-copy-id nobody-at-all@printer"):
        ssh.connect("printer", ssh_config=sshd.config)
    ssh.connect("printer", getpass.getuser(), ssh_config=sshd.config).close()
