"""What goes wrong between the controller and a host. Every message names the host and says what to do."""

from fleetflash.agent.port import PortError


class LinkError(Exception):
    """The host can't be used through SSH."""


class UnreachableError(LinkError):
    """No SSH connection: no route, no listener, or the connection was lost."""


class HostKeyError(UnreachableError):
    """The host's key is unknown, or another one than before."""


class LoginError(UnreachableError):
    """The host refused every key that was offered."""


class PythonError(LinkError):
    """The host has no Python, or one that is too old for the agent."""


class SudoError(LinkError):
    """``sudo -n`` was refused."""


class AgentError(LinkError):
    """The agent ended, or said something that can't be understood."""


class StallError(LinkError, TimeoutError):
    """Nothing came within the time allowed; the session may still be used."""


class PortLostError(LinkError, PortError):
    """The connection that carried a port was lost; what the board holds is unknown here."""
