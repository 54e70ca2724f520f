"""The controller's end of the agent's ``provision``: look at what Klipper runs from, and change it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fleetflash.link.session import AgentSession
from fleetflash.provision.errors import HostRefusedError
from fleetflash.provision.expected import Expected

#: A look waits for what an earlier run has left working on the host, such as pip on a slow board, in seconds.
LOOK_SECONDS = 1800.0
#: Building a virtualenv or fetching a repository on the slowest board, in seconds.
WORK_SECONDS = 4000.0


@dataclass(frozen=True)
class Tree:
    """A source tree, as ``fleetflash.agent.source_tree.Tree`` describes it; ``error``: why git can't read it."""

    kind: str = "absent"
    commit: str = ""
    changes: tuple[str, ...] = ()
    is_current: bool = False
    is_local: bool = False
    is_moving: bool = False
    error: str = ""


@dataclass(frozen=True)
class Found:
    """What a host has. ``environments``: path → why it is not what it shall be, empty when it is.

    ``helpers``: path of a source tree → likewise, of klippy's C helper in it.
    ``restart``: services that run from what was changed since they were started. ``held``: what is as it was expected.
    ``problem``: why the host could not be asked; then it has nothing.
    """

    home: str = ""
    trees: dict[str, Tree] = field(default_factory=dict)
    environments: dict[str, str] = field(default_factory=dict)
    helpers: dict[str, str] = field(default_factory=dict)
    restart: tuple[str, ...] = ()
    held: frozenset[Expected] = frozenset()
    problem: str = ""


class Provisioning:
    """Talks to one host as root; raises ``LinkError``, or ``HostRefusedError`` with the host's own words."""

    def __init__(self, transport: Any, host: str, sudo: bool) -> None:
        self.transport, self.host, self.sudo = transport, host, sudo

    def look(
        self,
        user: str,
        trees: dict[str, str],
        environments: dict[str, str],
        services: list[str],
        expected: Sequence[Expected] = (),
    ) -> Found:
        """Say what is there: ``trees`` maps paths to pins, ``environments`` paths to requirements."""
        request = {"user": user, "trees": trees, "environments": environments, "services": services}
        asked = [one.to_json() for one in expected]
        answer = self._ask({"type": "look", **request, "expected": asked}, b"", LOOK_SECONDS)
        return Found(
            home=str(answer["home"]),
            trees={path: _tree(facts) for path, facts in answer["trees"].items()},
            environments={path: str(flaw) for path, flaw in answer["environments"].items()},
            helpers={path: str(flaw) for path, flaw in answer["helpers"].items()},
            restart=tuple(answer["restart"]),
            held=frozenset(one for one, held in zip(expected, answer["held"], strict=True) if held),
        )

    def checkout(self, request: dict[str, Any], bundle: bytes) -> str:
        """Bring a source tree to its commit; return what was kept of what was in the way."""
        return str(self._ask({"type": "checkout", **request}, bundle, WORK_SECONDS)["detail"])

    def environment(self, request: dict[str, Any], wheels: bytes) -> str:
        """Build a virtualenv; return what was kept of what lay there."""
        return str(self._ask({"type": "environment", **request}, wheels, WORK_SECONDS)["detail"])

    def helper(self, request: dict[str, Any]) -> None:
        """Build klippy's C helper."""
        self._ask({"type": "helper", **request}, b"", WORK_SECONDS)

    def sweep(self, user: str, trees: list[str], environments: list[str], *, remove: bool) -> list[str]:
        """Return one line for each thing that changes which died have left, and have it removed if asked."""
        request = {"user": user, "trees": trees, "environments": environments, "remove": remove}
        return [str(line) for line in self._ask({"type": "sweep", **request}, b"", WORK_SECONDS)["found"]]

    def _ask(self, message: dict[str, Any], data: bytes, seconds: float) -> dict[str, Any]:
        with AgentSession(self.transport, self.host, ["provision"], sudo=self.sudo) as session:
            session.send({**message, "size": len(data)})
            session.send_data(data)
            answer = session.receive(seconds)
        if isinstance(answer, bytes) or answer["type"] not in ("found", "done", "swept"):
            said = answer["message"] if isinstance(answer, dict) and answer["type"] == "refused" else f"{answer!r:.80}"
            raise HostRefusedError(f"{self.host}: {said}")
        return answer


def _tree(facts: dict[str, Any]) -> Tree:
    return Tree(
        str(facts["kind"]),
        str(facts.get("commit", "")),
        tuple(facts.get("changes", ())),
        bool(facts["is_current"]),
        bool(facts.get("is_local", False)),
        bool(facts.get("is_moving", False)),
        str(facts.get("error", "")),
    )
