"""What a gateway's own API says it runs: the field that its checks hold against the pin."""

from collections.abc import Mapping

from fleetflash.boards import Board
from fleetflash.functional.description import read_checks
from fleetflash.functional.document import DocumentError, field, read_document
from fleetflash.functional.errors import AskError, CheckDataError
from fleetflash.functional.http_client import ask_once
from fleetflash.secret import Secret, SecretError, redact

#: How a check says that a field is the version of the firmware.
VERSION = "{version}"


class VersionApiError(Exception):
    """A gateway that has a version API did not say its version. One line, without secrets."""


def version_field(board: Board) -> tuple[str, str] | None:
    """Return the HTTP check, by name, and the path of its field that is the version; ``None`` where there is none."""
    checks = board.checks.get("http") if isinstance(board.checks, Mapping) else None
    for name, check in checks.items() if isinstance(checks, Mapping) else ():
        fields = check.get("fields") if isinstance(check, Mapping) else None
        for path, expected in fields.items() if isinstance(fields, Mapping) else ():
            if expected == VERSION:
                return str(name), str(path)
    return None


def running_version(host: str, board: Board) -> str:
    """Ask a gateway once what it runs; empty for one whose checks name no such field.

    Raises ``VersionApiError`` when it does not answer, or not with a version.
    """
    found = version_field(board)
    if found is None:
        return ""
    name, path = found
    secrets: list[Secret] = []
    try:
        # Whatever is wanted: it is asked what it has.
        check = read_checks(host, board.model_copy(update={"firmware_version": "any"})).http[name]
        if check.auth is not None:
            secrets.append(check.auth.read(f"checks.http.{name}.auth"))
        answer = ask_once(check, secrets[0] if secrets else None)
        if answer.status != check.status:
            raise VersionApiError(f"{check.url} answered with status {answer.status}")
        version = field(read_document(answer.content), path)
    except (AskError, CheckDataError, DocumentError, SecretError) as error:
        raise VersionApiError(redact(str(error), secrets)) from None
    if not isinstance(version, str) or not version:
        raise VersionApiError(f"{check.url}: {path} is no version: {redact(f'{version!r:.60}', secrets)}")
    return redact(version, secrets)
