"""What shall be: Klipper's source, virtualenvs and C helper on a host."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from pyinfra import host, logger
from pyinfra.api import FunctionCommand, operation

from fleetflash.facts import installation
from fleetflash.facts.installation import ENVIRONMENT, TREE, Desired, Errors
from fleetflash.host_state import permission
from fleetflash.operations.refusal import refuse
from fleetflash.provision import bundle, requirements
from fleetflash.provision.conversation import Found
from fleetflash.report import run as report

DISCARD = "klipper_discard_changes"


@operation()
def source() -> Generator[FunctionCommand, None, None]:
    """
    Have Klipper's source tree at the pinned commit. Waits for a print to end: that is, for a later run.

    Changes that somebody has made there are an error, unless ``klipper_discard_changes`` in the host's data has them
    saved as a patch first. With ``policy = "exact"`` a tree that is there moves with the boards, not here; one that a
    rollback holds stays, whatever the policy.
    """
    yield from _bring(_source_differs, _checkout, may_be_held=_is_there)


@operation()
def environment(path: str) -> Generator[FunctionCommand, None, None]:
    """
    Have a virtualenv that is exactly what its hashed requirements say. Waits for a print to end, as ``source`` does.

    + path: below the user's home
    """
    yield from _bring(lambda found, wanted: found.environments.get(path, "is not there"), _build, path)


@operation()
def helper() -> Generator[FunctionCommand, None, None]:
    """
    Have klippy's C helper built, which klippy would do when it starts: two of them at once, as on a host with several
    printers, would load what the other is still writing. Waits for a print to end, as ``source`` does.
    """
    yield from _bring(_helper_differs, _build_helper)


@operation()
def refused(reason: str) -> Generator[FunctionCommand, None, None]:
    """
    Fail this host, and no other, before anything is done there.

    + reason: what is wrong with its data
    """
    yield FunctionCommand(refuse, (reason,), {})


def _bring(
    differs: Callable[[Found, Desired], str],
    change: Callable[..., bool],
    *arguments: str,
    may_be_held: Callable[[Found], bool] = lambda found: False,
) -> Generator[FunctionCommand, None, None]:
    if (other := installation.bringer(host)) != host.name:
        host.noop(f"{other} is the same host and sees to it")
        return
    try:
        wanted = installation.desired(host)
        found = installation.look(host, wanted)
        difference = differs(found, wanted)
        changes = bool(difference) and not found.problem
        hold = installation.why_held(host, wanted) if changes and may_be_held(found) else ""
        reason = installation.why_busy(host, installation.entries(host)) if changes and not hold else ""
    except Errors as error:
        # Raised here, it would end the run for all hosts.
        yield FunctionCommand(refuse, (str(error),), {})
        return
    if found.problem and host.state.is_executing:
        yield FunctionCommand(refuse, (found.problem,), {})
    elif hold:
        _wait(f"{difference}: {hold}")
        host.noop("is held by a rollback")
    elif reason:
        _wait(f"{difference}, which has to wait: {reason}; run again when it is idle")
        host.noop("waits until the printer is idle")
    elif difference:
        yield FunctionCommand(change, (wanted, found, *arguments), {})
    else:
        host.noop("is what it shall be")


def _wait(text: str) -> None:
    logger.warning(f"{host.print_prefix}{text}")
    report.current(host.state).add_waiting(host.name, text)


def _is_there(found: Found) -> bool:
    """Whether the host has a whole source tree."""
    tree = found.trees.get(TREE)
    return tree is not None and bool(tree.commit) and not tree.is_moving


def _source_differs(found: Found, wanted: Desired) -> str:
    tree = found.trees.get(TREE)
    if _is_there(found) and host.data.get("policy") == "exact":
        return ""  # a checkout that is there moves with its boards, in their transaction
    if tree is None or not tree.is_current:
        return f"~/{TREE} is not at {wanted.installation.ref}"
    if tree.changes and permission(host.data.dict(), DISCARD):
        return f"~/{TREE} has changes of its own"
    if tree.changes:
        shown = ", ".join(tree.changes[:3])
        logger.warning(f"{host.print_prefix}~/{TREE} is at its commit, but has changes of its own: {shown}")
    return ""


def _helper_differs(found: Found, wanted: Desired) -> str:
    flaw = found.helpers.get(TREE, "") if _is_there(found) else "is not built"
    return f"klippy's C helper {flaw}" if flaw else ""


def _checkout(state: Any, host: Any, wanted: Desired, found: Found) -> bool:
    home = wanted.installation

    def work() -> str:
        there = found.trees[TREE].commit if TREE in found.trees else ""
        data = bundle.make(wanted.revision, there) if wanted.revision else b""
        request = {
            "user": home.user,
            "path": TREE,
            "ref": wanted.ref,
            "repository": home.repository,
            "discard": permission(host.data.dict(), DISCARD),
            "services": wanted.run_from(TREE),
        }
        return installation.provisioning(host).checkout(request, data)

    return _carry_out(host, f"~/{TREE} is at {home.ref}", work)


def _build(state: Any, host: Any, wanted: Desired, found: Found, path: str) -> bool:
    source = wanted.source_of(path)

    def work() -> str:
        text = wanted.texts[path]
        wheels = requirements.pack(text, Path(source.requirements), Path(source.wheels)) if source.wheels else b""
        request = {
            "user": wanted.installation.user,
            "path": path,
            "requirements": text,
            "services": wanted.run_from(path),
        }
        return installation.provisioning(host).environment(request, wheels)

    return _carry_out(host, f"~/{path} {found.environments.get(path, 'is not there')}: built", work)


def _build_helper(state: Any, host: Any, wanted: Desired, found: Found) -> bool:
    def work() -> str:
        request = {"user": wanted.installation.user, "path": TREE, "environment": ENVIRONMENT, "services": []}
        installation.provisioning(host).helper(request)
        return ""

    return _carry_out(host, f"{_helper_differs(found, wanted)}: built", work)


def _carry_out(host: Any, what: str, work: Callable[[], str]) -> bool:
    installation.forget(host)
    try:
        kept = work()
    except Errors as error:
        return refuse(None, host, str(error))
    logger.info(f"{host.print_prefix}{what}{f'; {kept}' if kept else ''}")
    return True
