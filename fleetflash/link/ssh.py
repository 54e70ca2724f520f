"""SSH connections as ``ssh`` itself would make them: ``ssh_config``, ``known_hosts``, agent, keys, jump hosts."""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paramiko

from fleetflash.link import known_hosts
from fleetflash.link.errors import HostKeyError, LinkError, LoginError, UnreachableError
from fleetflash.link.session import keep_alive

CONNECT_SECONDS = 20.0
CONFIG_VARIABLE = "FLEETFLASH_SSH_CONFIG"


class SshConnection:
    """An open connection; ``transport`` is what an ``AgentSession`` takes. Closes its jump hosts with it."""

    def __init__(self, host: str, client: paramiko.SSHClient, jumps: list["SshConnection"]) -> None:
        transport = client.get_transport()
        assert transport is not None
        self.host = host
        self.transport: paramiko.Transport = transport
        self._client = client
        self._jumps = jumps
        keep_alive(transport)

    def close(self) -> None:
        self._client.close()
        _close(self._jumps)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    host: str, user: str | None = None, port: int | None = None, *, ssh_config: str | Path | None = None
) -> SshConnection:
    """Connect to ``host``, a name or an alias of ssh_config. What is passed goes before what is configured.

    + ssh_config: the file; by default that of ``FLEETFLASH_SSH_CONFIG``, or ``~/.ssh/config``

    Unknown host keys are refused unless ``StrictHostKeyChecking`` says ``accept-new`` (then remembered) or
    ``no``; changed ones are refused always. Raises ``UnreachableError``.
    """
    return _connect(_load_config(ssh_config), host, user, port, [])


@dataclass(frozen=True)
class _Target:
    host: str
    address: str
    port: int
    user: str | None
    options: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return self.host if self.host == self.address else f"{self.host} ({self.address}:{self.port})"

    def says_yes(self, option: str) -> bool:
        return str(self.options.get(option, "no")).lower() == "yes"


def _load_config(path: str | Path | None) -> paramiko.SSHConfig:
    named = path or os.environ.get(CONFIG_VARIABLE)
    file = Path(named or "~/.ssh/config").expanduser()
    if not file.exists():
        if named:
            raise UnreachableError(f"{file}: no such ssh_config; correct {CONFIG_VARIABLE} or ssh_config=")
        return paramiko.SSHConfig()
    try:
        return paramiko.SSHConfig.from_path(str(file))
    except (paramiko.ConfigParseError, OSError) as error:
        raise UnreachableError(f"{file}: {error}") from None


def _target(config: paramiko.SSHConfig, host: str, user: str | None, port: int | None) -> _Target:
    options: dict[str, Any] = dict(config.lookup(host))
    return _Target(
        host,
        str(options.get("hostname", host)),
        port or int(options.get("port", 22)),
        user or options.get("user"),
        options,
    )


def _connect(
    config: paramiko.SSHConfig, host: str, user: str | None, port: int | None, on_the_way: list[str]
) -> SshConnection:
    if host in on_the_way:
        raise UnreachableError(f"{host}: ProxyJump leads in a circle: {' -> '.join([*on_the_way, host])}")
    target = _target(config, host, user, port)
    jumps: list[SshConnection] = []
    try:
        words = str(target.options.get("proxyjump", "none"))
        for hop in [] if words.lower() == "none" else words.split(","):
            if jumps:
                jumps.append(_log_in(_target(config, *_hop(hop)), jumps[-1]))
            else:
                jumps.append(_connect(config, *_hop(hop), [*on_the_way, host]))
        connection = _log_in(target, jumps[-1] if jumps else None)
    except BaseException:
        _close(jumps)
        raise
    connection._jumps = jumps
    return connection


def _hop(word: str) -> tuple[str, str | None, int | None]:
    user, _, rest = word.strip().rpartition("@")
    name, _, port = rest.partition(":")
    return name, user or None, int(port) if port else None


def _log_in(target: _Target, via: SshConnection | None) -> SshConnection:
    client = paramiko.SSHClient()
    identities: Any = [str(Path(name).expanduser()) for name in target.options.get("identityfile", [])]
    only_named = target.says_yes("identitiesonly")
    alias = target.options.get("hostkeyalias")
    try:
        known_hosts.prepare(client, target.host, target.options)
        client.connect(
            # Only the name of the key; the stream is made already.
            str(alias or target.address),
            22 if alias else target.port,
            target.user,
            key_filename=identities or None,
            allow_agent=not only_named and str(target.options.get("identityagent", "")).lower() != "none",
            look_for_keys=not only_named,
            sock=_stream(target, via),
            timeout=CONNECT_SECONDS,
            banner_timeout=CONNECT_SECONDS,
            auth_timeout=CONNECT_SECONDS,
            channel_timeout=CONNECT_SECONDS,
        )
    except BaseException as error:
        client.close()
        failure = _failure(target, error)
        if failure is error:
            raise
        raise failure from None
    return SshConnection(target.host, client, [])


def _stream(target: _Target, via: SshConnection | None) -> Any:
    if via is not None:
        try:
            return via.transport.open_channel(
                "direct-tcpip", (target.address, target.port), ("127.0.0.1", 0), timeout=CONNECT_SECONDS
            )
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise UnreachableError(f"{target}: the jump host {via.host} does not reach it ({error})") from None
    command = str(target.options.get("proxycommand", "none"))
    if command.lower() != "none":
        return paramiko.ProxyCommand(command)
    return socket.create_connection((target.address, target.port), CONNECT_SECONDS)


def _failure(target: _Target, error: BaseException) -> BaseException:
    """Say in one line what went wrong and what to do; what is no failure of SSH is returned as it is."""
    if isinstance(error, LinkError):
        return error
    if isinstance(error, paramiko.BadHostKeyException):
        return HostKeyError(
            f"{target}: its key is {error.key.fingerprint}, known_hosts has {error.expected_key.fingerprint}: another "
            f"machine, or a new installation. If you know why, run `ssh-keygen -R {error.hostname}`"
        )
    if isinstance(error, paramiko.PasswordRequiredException):
        return LoginError(f"{target}: its key file has a passphrase; load it with ssh-add")
    if isinstance(error, paramiko.AuthenticationException):
        who = f"{target.user}@" if target.user else ""
        return LoginError(
            f"{target}: refused every key that was offered; check User and IdentityFile, "
            f"or run `ssh-copy-id {who}{target.host}`"
        )
    if isinstance(error, (paramiko.SSHException, EOFError, OSError)):
        if isinstance(error, paramiko.SSHException) and "No authentication methods" in str(error):
            return LoginError(f"{target}: no key to log in with; name an IdentityFile, or load one with ssh-add")
        return UnreachableError(f"{target}: no SSH connection ({error or 'closed'}); is it on, and sshd running?")
    return error


def _close(jumps: list[SshConnection]) -> None:
    for jump in reversed(jumps):
        jump.close()
