import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from loopback_ssh import LoopbackSshd, needs_sshd
from pseudo_terminal import PseudoTerminal

from fleetflash.agent import wire
from fleetflash.agent.compiled import compiled
from fleetflash.agent.ports import holders
from fleetflash.link import agent_archive, bootstrap, session
from fleetflash.link.errors import AgentError, LinkError, PythonError, StallError, SudoError, UnreachableError
from fleetflash.link.session import AgentSession

SHELLS = {
    "dash": ["dash", "-c"],
    "bash with a talkative start-up file": ["bash", "-c"],
    "fish": ["fish", "-c"],
    "zsh": ["zsh", "-c"],
}
OTHER_PYTHONS = [*sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3")), Path("/usr/bin/python3")]


@pytest.fixture
def transport(sshd: LoopbackSshd) -> Iterator[paramiko.Transport]:
    transport = sshd.transport()
    yield transport
    transport.close()


ORDER = wire.encode_json({"type": "open", "port": "/dev/none"})


def run_bootstrap(
    shell: list[str], environment: dict[str, str], python: str = "python3", order: bytes = ORDER
) -> tuple[bytes, bytes, int]:
    """Run the remote command as sshd would; by default, the agent is told to open a port that isn't there."""
    archive = agent_archive.archive()
    command = bootstrap.command(archive, ["serve"]).replace("python3 ", f"{python} ", 1)
    result = subprocess.run(
        [*shell, command],
        input=bootstrap.upload(archive.data) + order,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", **environment},
        timeout=60,
    )
    return result.stdout, result.stderr, result.returncode


@pytest.mark.parametrize("shell", SHELLS)
def test_agent_starts_from_any_login_shell(shell: str, tmp_path: Path) -> None:
    if not shutil.which(SHELLS[shell][0]):
        pytest.skip(f"{SHELLS[shell][0]} is not installed")
    talkative = tmp_path / "bashrc"
    talkative.write_text("echo Welcome to your printer!; printf 'no newline at the end'\n")
    stdout, stderr, code = run_bootstrap(SHELLS[shell], {"BASH_ENV": str(talkative), "HOME": str(tmp_path)})
    noise, marker, frames = stdout.partition(b"\n" + wire.MARKER + b" need\n")
    assert marker, stdout
    assert noise.endswith(b"no newline at the end") == ("talkative" in shell)
    assert b"/dev/none: no such port" in frames
    assert (stderr, code) == (b"", 1)


@pytest.mark.parametrize("python", OTHER_PYTHONS, ids=lambda path: path.parts[-3])
def test_agent_works_on_every_python_or_says_that_it_is_too_old(python: Path, terminal: PseudoTerminal) -> None:
    version = subprocess.run(
        [python, "-c", "import sys; print(*sys.version_info[:3], sep='.')"], capture_output=True, text=True, check=True
    ).stdout.strip()
    order = (
        wire.encode_json({"type": "open", "port": terminal.path})
        + wire.encode(wire.DATA, b"hello")
        + wire.encode_json({"type": "play", "steps": [[True, False, 0.01]], "id": 1})
        + wire.encode_json({"type": "baudrate", "value": 250000, "id": 2})
        + wire.encode_json({"type": "close", "id": 3})
    )
    if tuple(map(int, version.split(".")[:2])) < bootstrap.OLDEST_PYTHON:
        stdout, _, code = run_bootstrap(["sh", "-c"], {}, str(python), order)
        assert stdout == b"\n" + wire.MARKER + b" old " + version.encode() + b"\n"
        assert code == 1
        return
    archive = agent_archive.archive()
    command = bootstrap.command(archive, ["serve"]).replace("python3 ", f"{python} ", 1)
    pipe = subprocess.PIPE
    with subprocess.Popen(["sh", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe) as agent:
        assert agent.stdin and agent.stdout and agent.stderr
        agent.stdin.write(bootstrap.upload(archive.data) + order)
        agent.stdin.flush()
        stdout = b""
        # The stream must not end before the agent has carried everything out.
        while stdout.count(b"done") < 3 and (more := agent.stdout.read1()):
            stdout += more
        agent.stdin.close()
        stdout += agent.stdout.read()
        stderr, code = agent.stderr.read(), agent.wait(60)
    assert b"need\n" in stdout and b"opened" in stdout and stdout.count(b"done") == 3, stdout
    assert (stderr, code) == (b"", 0)
    assert terminal.speed() == 250000


def test_a_damaged_upload_is_not_run(tmp_path: Path) -> None:
    archive = agent_archive.archive()
    result = subprocess.run(
        ["sh", "-c", bootstrap.command(archive, ["serve"])],
        input=bootstrap.upload(archive.data[:-1] + b"!"),
        capture_output=True,
    )
    assert result.returncode == 1 and b"the agent arrived incomplete" in result.stderr


def test_an_archive_kept_on_the_host_is_used_only_when_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "AGENT_DIRECTORY", str(tmp_path))
    sha256, _, data = agent_archive.archive()
    for content, word in ((data, b" have\n"), (data[:-1], b" need\n")):
        (tmp_path / f"{sha256}.pyz").write_bytes(content)
        stdout, _, _ = run_bootstrap(["sh", "-c"], {})
        assert wire.MARKER + word in stdout
    (tmp_path / f"{sha256}.pyz").write_bytes(data)
    result = subprocess.run(
        ["sh", "-c", bootstrap.command(agent_archive.archive(), ["serve"])],
        input=ORDER,
        capture_output=True,
        timeout=60,
    )
    assert b"/dev/none: no such port" in result.stdout


def test_modules_come_from_the_compiled_archive_only_while_it_is_undamaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "AGENT_DIRECTORY", str(tmp_path))
    sha256, _, data = agent_archive.archive()
    (tmp_path / f"{sha256}.pyz").write_bytes(data)
    quick = tmp_path / f"{sha256}.{sys.implementation.cache_tag}.zip"
    # What only this one would say: no source of it says so.
    quick.write_bytes(compiled(with_other_commands(data)))
    assert "nothing else" in ask()
    quick.write_bytes(quick.read_bytes().replace(b"nothing else", b"nothing more"))
    assert "expected one of: snapshot" in ask()
    quick.unlink()
    assert "expected one of: snapshot" in ask()


def ask() -> str:
    """Return what the agent says to a command that it doesn't have."""
    # Not that of the virtualenv, which has imported fleetflash by then.
    python = Path(sys.executable).resolve()
    command = bootstrap.command(agent_archive.archive(), ["none"]).replace("python3 ", f"{python} ", 1)
    return subprocess.run(["sh", "-c", command], input=b"", capture_output=True, timeout=60).stderr.decode()


def with_other_commands(data: bytes) -> bytes:
    """Return the agent's archive with another word for "expected one of"."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"expected one of", b"nothing else"))
    return changed.getvalue()


def test_modules_of_the_home_directory_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, that would make every user of the host root."""
    (tmp_path / "hashlib.py").write_text("print('taken over')")
    monkeypatch.chdir(tmp_path)
    stdout, _, _ = run_bootstrap(["sh", "-c"], {"PYTHONPATH": str(tmp_path)})
    assert b"taken over" not in stdout and b"/dev/none: no such port" in stdout


def test_arguments_that_a_shell_would_read_are_refused() -> None:
    with pytest.raises(ValueError, match="needs quoting"):
        bootstrap.command(agent_archive.archive(), ["serve", "; reboot"])


def test_archive_is_the_same_every_time() -> None:
    first = agent_archive.archive()
    agent_archive.archive.cache_clear()
    assert agent_archive.archive() == first


@needs_sshd
def test_one_command_starts_the_agent_and_data_passes(
    sshd: LoopbackSshd, transport: paramiko.Transport, terminal: PseudoTerminal
) -> None:
    before = sshd.commands_run()
    terminal.echo()
    with AgentSession(transport, "printer", ["serve"]) as agent:
        agent.send({"type": "open", "port": terminal.path, "baudrate": 250000})
        assert agent.receive(10) == {"type": "opened"}
        credit = agent.receive(5)
        assert isinstance(credit, dict) and credit["type"] == "credit"
        agent.send({"type": "credit", "bytes": 1 << 20})
        sent = os.urandom(100_000)
        agent.send_data(sent)
        received = b""
        while len(received) < len(sent):
            frame = agent.receive(10)
            received += frame if isinstance(frame, bytes) else b""
        assert received == sent
    assert sshd.commands_run() == before + 1
    assert not holders(terminal.path)


@needs_sshd
def test_closing_a_session_frees_the_port_before_it_returns(
    transport: paramiko.Transport, terminal: PseudoTerminal
) -> None:
    for _ in range(3):
        with AgentSession(transport, "printer", ["serve"]) as agent:
            agent.send({"type": "open", "port": terminal.path})
            assert agent.receive(10) == {"type": "opened"}
        assert not holders(terminal.path)


@needs_sshd
def test_a_dropped_connection_frees_the_port(sshd: LoopbackSshd, terminal: PseudoTerminal) -> None:
    transport = sshd.transport()
    agent = AgentSession(transport, "printer", ["serve"])
    agent.send({"type": "open", "port": terminal.path})
    assert agent.receive(10) == {"type": "opened"}
    transport.sock.close()
    deadline = time.monotonic() + 5
    while holders(terminal.path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not holders(terminal.path)
    with pytest.raises(UnreachableError, match="printer: the SSH connection was lost"):
        while True:
            agent.receive(5)
    agent.close()
    transport.close()


@needs_sshd
def test_receive_has_a_deadline_and_the_session_goes_on(transport: paramiko.Transport) -> None:
    with AgentSession(transport, "printer", ["serve"]) as agent:
        started = time.monotonic()
        with pytest.raises(StallError, match="printer: the agent said nothing"):
            agent.receive(0.2)
        assert 0.2 <= time.monotonic() - started < 10
        agent.send({"type": "open", "port": "/dev/none"})
        answer = agent.receive(10)
        assert isinstance(answer, dict) and "no such port" in answer["message"]


@needs_sshd
def test_an_agent_that_ends_is_reported_with_its_last_words(transport: paramiko.Transport) -> None:
    with AgentSession(transport, "printer", ["nonsense"]) as agent:
        with pytest.raises(AgentError, match=r"printer: the agent ended, exit code 2: .*serve"):
            agent.receive(10)
        assert "serve" in agent.stderr_tail()
        with pytest.raises(AgentError):
            agent.send_data(b"too late")


@needs_sshd
def test_much_on_stderr_does_not_block_the_session(
    transport: paramiko.Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both streams share one SSH window of 2 MiB."""
    flood = 'import sys;sys.stderr.write("x"*4000000+"the end");'
    monkeypatch.setattr(bootstrap, "_PROGRAM", flood + bootstrap._PROGRAM)
    with AgentSession(transport, "printer", ["serve"]) as agent:
        deadline = time.monotonic() + 20
        while not agent.stderr_tail().endswith("the end"):
            assert time.monotonic() < deadline, "the end of what the agent wrote never came"
            time.sleep(0.05)


@needs_sshd
@pytest.mark.parametrize(
    ("shell", "kind", "words"),
    [
        ("echo 'bash: line 1: python3: command not found' >&2; exit 127", PythonError, "has no python3"),
        (f"echo; echo {wire.MARKER.decode()} old 3.7.3", PythonError, "is 3.7.3, the agent needs 3.9 or newer"),
        ("echo 'This account is not available.'; exit 1", AgentError, "This account is not available"),
        ("exec yes", AgentError, "prints without end"),
        ("exec sleep 60", StallError, "did not start within"),
    ],
)
def test_hosts_that_cannot_run_the_agent_say_why(
    tmp_path: Path, shell: str, kind: type[LinkError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "START_SECONDS", 3.0)
    monkeypatch.setattr(session, "END_SECONDS", 1.0)
    with LoopbackSshd(tmp_path, f"ForceCommand {shell}") as sshd:
        transport = sshd.transport()
        with pytest.raises(kind, match=words) as caught:
            AgentSession(transport, "printer", ["serve"])
        assert str(caught.value).startswith("printer: ")
        transport.close()


@needs_sshd
@pytest.mark.parametrize(
    "refusal",
    [
        "sudo: a password is required",
        "Sorry, user pi is not allowed to execute '/usr/bin/python3' as root on printer.",
        "pi is not in the sudoers file.",
        "sudo: sorry, you must have a tty to run sudo",
    ],
)
def test_a_refusing_sudo_is_named(tmp_path: Path, refusal: str) -> None:
    script = tmp_path / "refuse"
    script.write_text(f'#!/bin/sh\necho "{refusal}" >&2\nexit 1\n')
    script.chmod(0o755)
    with LoopbackSshd(tmp_path, f"ForceCommand {script}") as sshd:
        transport = sshd.transport()
        with pytest.raises(SudoError, match=r"printer: sudo refused .*NOPASSWD"):
            AgentSession(transport, "printer", ["serve"], sudo=True)
        transport.close()


def test_sudo_never_asks() -> None:
    assert bootstrap.command(agent_archive.archive(), ["run"], sudo=True).startswith("sudo -n python3 ")


@needs_sshd
def test_a_closed_transport_is_an_unreachable_host(sshd: LoopbackSshd) -> None:
    transport = sshd.transport()
    transport.close()
    with pytest.raises(UnreachableError, match="printer"):
        AgentSession(transport, "printer", ["serve"])


@needs_sshd
def test_a_reader_and_a_writer_thread_do_not_disturb_each_other(
    transport: paramiko.Transport, terminal: PseudoTerminal
) -> None:
    """The writer fills the SSH window while the reader's short timeouts come and go."""
    with AgentSession(transport, "printer", ["serve"]) as agent:
        agent.send({"type": "open", "port": terminal.path})
        assert agent.receive(10) == {"type": "opened"}
        agent.receive(10)
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                try:
                    agent.receive(0.001)
                except LinkError:
                    continue

        reader = threading.Thread(target=read)
        reader.start()
        # Each ping is nothing to the agent, but the stopped process below takes in none of them.
        pid = holders(terminal.path)[0][0]
        os.kill(pid, signal.SIGSTOP)
        resume = threading.Timer(0.5, os.kill, [pid, signal.SIGCONT])
        resume.start()
        for _ in range(60):
            agent.send({"type": "ping", "padding": "x" * 100_000})
        resume.join()
        stop.set()
        reader.join()


@needs_sshd
def test_the_session_works_under_gevent(sshd: LoopbackSshd, terminal: PseudoTerminal) -> None:
    """As in pyinfra: everything is patched, and several hosts are served by one thread."""
    terminal.echo()
    program = f"""
from gevent import monkey; monkey.patch_all()
import gevent, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import paramiko, socket
from fleetflash.link.session import AgentSession
from fleetflash.link.port import RemotePort
def connect():
    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", {sshd.port})))
    key = paramiko.Ed25519Key.from_private_key_file({str(sshd.directory / "user_key")!r})
    transport.connect(username={sshd.user!r}, pkey=key)
    return transport
def ask(number):
    with AgentSession(connect(), f"printer-{{number}}", ["serve"]) as agent:
        agent.send({{"type": "open", "port": "/dev/none"}})
        return "no such port" in agent.receive(20)["message"]
jobs = [gevent.spawn(ask, number) for number in range(5)]
ticks = 0
while not all(job.ready() for job in jobs):
    gevent.sleep(0.01); ticks += 1
assert all(job.get() for job in jobs) and ticks > 10, ticks
with AgentSession(connect(), "printer", ["serve"]) as agent:
    port = RemotePort.open(agent, "printer", {terminal.path!r}, background=True)
    port.write(b"hello"); assert port.read(5, 5) == b"hello"; assert port.read(1, 0.05) == b""
    port.close()
print("fine")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.stdout == "fine\n", result.stderr
