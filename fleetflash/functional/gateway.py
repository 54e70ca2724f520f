"""Does all checks of a gateway, one after the other."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fleetflash.boards import Board
from fleetflash.functional import http_answer, mqtt_messages
from fleetflash.functional.can_capture import Capture, take
from fleetflash.functional.can_database import CanDatabase
from fleetflash.functional.can_judgement import CanJudge
from fleetflash.functional.candump import one_bus, read_frames
from fleetflash.functional.description import VICTRON, CanCheck, HttpCheck, MqttCheck, TopicCheck, read_checks
from fleetflash.functional.errors import AskError, CheckDataError
from fleetflash.functional.http_client import ask_until
from fleetflash.functional.mqtt_client import listen
from fleetflash.functional.verdict import Finding, Verdict
from fleetflash.secret import Secret, SecretError, redact
from fleetflash.secret_source import SecretSource
from fleetflash.verification.check import Check, Result

if TYPE_CHECKING:
    import paramiko


def check_gateway(
    host: str,
    board: Board,
    own: Callable[[], "paramiko.Transport"],
    keep: Callable[[Capture], None] = lambda _: None,
) -> list[Check]:
    """Return a row for everything that was looked at: ``drift`` when it is not as expected, ``failed`` without answer.

    + own: the connection to the host at which the gateway is; asked for only when a capture needs it
    + keep: takes the frames that were judged
    """
    try:
        checks = read_checks(host, board)
    except CheckDataError as error:
        return [Check(host, board.name, "checks", "readable", "a mistake", Result.FAILED, str(error))]
    rows: list[Check] = []
    for name, http in checks.http.items():
        rows += _Rows(host, board.name).of(f"http {name}", partial(_http, name, http))
    if checks.mqtt is not None:
        rows += _Rows(host, board.name).of("mqtt", partial(_mqtt, checks.mqtt))
    if checks.can is not None:
        rows += _Rows(host, board.name).of("can", partial(_can, checks.can, own, keep))
    return rows


class _Rows:
    """Makes rows of findings, without the secrets that were used to get them."""

    def __init__(self, host: str, board: str) -> None:
        self._host, self._board = host, board
        self._secrets: list[Secret] = []

    def secret(self, name: str, source: SecretSource | None) -> Secret | None:
        """Read a secret; raises ``SecretError``."""
        if source is None:
            return None
        found = source.read(name)
        self._secrets.append(found)
        return found

    def of(self, name: str, findings: Callable[["_Rows"], Iterator[Finding]]) -> list[Check]:
        try:
            return [self._row(finding) for finding in findings(self)]
        except (AskError, CheckDataError, SecretError) as error:
            detail = redact(str(error), self._secrets)
            return [Check(self._host, self._board, name, "an answer", "none", Result.FAILED, detail)]

    def _row(self, finding: Finding) -> Check:
        verdict = finding.verdict
        result = Result.DRIFT if verdict.problem else Result.OK
        texts = [redact(text, self._secrets) for text in (finding.expected, verdict.found, verdict.problem)]
        return Check(self._host, self._board, finding.name, texts[0], texts[1], result, texts[2])


def _http(name: str, check: HttpCheck, rows: _Rows) -> Iterator[Finding]:
    secret = rows.secret(f"checks.http.{name}.auth", check.auth)
    yield Finding(f"http {name}", http_answer.expected_text(check), ask_until(check, secret))


def _mqtt(check: MqttCheck, rows: _Rows) -> Iterator[Finding]:
    verdicts = listen(check, rows.secret("checks.mqtt.auth", check.auth))
    yield Finding("mqtt", "connected", Verdict("connected"))
    for name, topic in check.topics.items():
        yield Finding(
            f"mqtt {name}", mqtt_messages.expected_text(topic), verdicts.get(name) or _nothing(topic, check.broker)
        )


def _nothing(topic: TopicCheck, broker: str) -> Verdict:
    kind = "retained message" if topic.retained else "message"
    return Verdict("nothing", f"no {kind} on {topic.topic} in {topic.within:g} s; does the gateway know {broker}?")


def _can(
    check: CanCheck, own: Callable[[], "paramiko.Transport"], keep: Callable[[Capture], None], _rows: _Rows
) -> Iterator[Finding]:
    judge = CanJudge(check, CanDatabase(Path(check.dbc).expanduser() if check.dbc else VICTRON))
    capture = take(check, own)
    keep(capture)
    for frame in one_bus(read_frames(capture.lines, capture.name), check.interface, capture.name):
        judge.hear(frame)
    yield from judge.conclude(capture.begin, capture.end)
