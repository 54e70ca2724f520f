"""Asks a gateway's web server, until it answers as expected or the time is over."""

import base64
import http.client
import ssl
import time
import urllib.error
import urllib.request
from typing import IO, Any

from fleetflash.functional.description import HttpCheck
from fleetflash.functional.errors import AskError
from fleetflash.functional.http_answer import HttpAnswer, judge_answer
from fleetflash.functional.verdict import Verdict
from fleetflash.secret import Secret, redact

#: No page of a gateway is longer, in bytes; one that is, is not read to its end.
MOST = 4 << 20
#: Between two attempts, and for one of them, in seconds.
PAUSE, ATTEMPT = 1.0, 5.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection is an answer: whoever expects one says so, and credentials go nowhere else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def ask_until(check: HttpCheck, secret: Secret | None) -> Verdict:
    """Return the first verdict without a problem, or the last one; raises ``AskError`` when nobody ever answered.

    + secret: what ``auth`` of the check names
    """
    end = time.monotonic() + check.within
    opener = _opener(check)
    headers = _headers(check, secret)
    verdict: Verdict | None = None
    while True:
        left, said = end - time.monotonic(), ""
        try:
            verdict = judge_answer(check, _ask(opener, check.url, headers, min(ATTEMPT, max(left, 0.1))))
            if not verdict.problem:
                return verdict
        except AskError as error:
            said = str(error)
        if time.monotonic() + PAUSE >= end:
            break
        time.sleep(PAUSE)
    if verdict is not None:
        return verdict
    # What a library says of a connection could hold what was sent over it.
    raise AskError(redact(said, [secret] if secret else []))


def ask_once(check: HttpCheck, secret: Secret | None) -> HttpAnswer:
    """Return what is answered now; raises ``AskError``, without the secret."""
    try:
        return _ask(_opener(check), check.url, _headers(check, secret), min(ATTEMPT, check.within))
    except AskError as error:
        raise AskError(redact(str(error), [secret] if secret else [])) from None


def _opener(check: HttpCheck) -> urllib.request.OpenerDirector:
    try:
        context = ssl.create_default_context(cafile=check.ca or None)
    except (OSError, ssl.SSLError) as error:
        raise AskError(f"{check.ca}: {error.strerror or error}; give a PEM file with certificates as ca") from None
    # A gateway is near: what the environment says of proxies is not for it.
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirect())
    return urllib.request.build_opener(*handlers)


def _headers(check: HttpCheck, secret: Secret | None) -> dict[str, str]:
    headers = {"User-Agent": "fleetflash", "Cache-Control": "no-cache"}
    if secret is not None and check.user:
        pair = base64.b64encode(f"{check.user}:{secret.reveal()}".encode()).decode()
        return {**headers, "Authorization": f"Basic {pair}"}
    return {**headers, "Authorization": f"Bearer {secret.reveal()}"} if secret is not None else headers


def _ask(opener: urllib.request.OpenerDirector, url: str, headers: dict[str, str], seconds: float) -> HttpAnswer:
    end = time.monotonic() + seconds
    try:
        request = urllib.request.Request(url, headers=headers)
        try:
            with opener.open(request, timeout=seconds) as response:
                return _read(response, response.status, end)
        except urllib.error.HTTPError as refused:
            with refused:
                return _read(refused, refused.code, end)
    except urllib.error.URLError as error:
        reason = error.reason
        said = getattr(reason, "strerror", None) or reason
        raise AskError(f"{url} does not answer: {said}; is the gateway on, and in this network?") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise AskError(f"{url} breaks off: {said}; ask it in a browser") from None


def _read(response: Any, status: int, end: float) -> HttpAnswer:
    """Read what comes; a server that says a byte a second does not hold us longer than ``end``."""
    content = bytearray()
    while len(content) <= MOST:
        part = response.read1(1 << 16)
        if not part:
            return HttpAnswer(status, bytes(content))
        content += part
        if time.monotonic() > end:
            raise TimeoutError(f"no end of the answer after {len(content)} bytes")
    return HttpAnswer(status, bytes(content[:MOST]), complete=False)
