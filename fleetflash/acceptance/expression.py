"""Regular expressions of a contract: checked before a board depends on them.

Python's matcher tries alternatives one after the other. A repeat of a group that itself repeats or branches can take
for ever on one unlucky line, and with it the transaction in which it is judged; so it is refused.
"""

import re


class ExpressionError(Exception):
    """This expression can't be used. One line."""


def check(pattern: str) -> "re.Pattern[str]":
    """Return the compiled expression; raises ``ExpressionError``."""
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ExpressionError(f"{pattern!r} is no regular expression: {error}") from None
    if compiled.search(""):
        raise ExpressionError(f"{pattern!r} is found in every line, even in an empty one; say more")
    if _repeats_repeats(pattern):
        raise ExpressionError(
            f"{pattern!r} repeats a group that itself repeats or branches, which may take for ever on one line; "
            "repeat a class such as [a-z0-9 ]+ instead"
        )
    return compiled


def _repeats_repeats(pattern: str) -> bool:
    plain = _without_classes(pattern)
    risky = [False]  # for each open group: whether it repeats or branches
    for place, character in enumerate(plain):
        rest = plain[place + 1 :]
        if character == "(":
            risky.append(False)
        elif character == ")" and len(risky) > 1:
            inner = risky.pop()
            if inner and _is_unbounded(rest):
                return True
            risky[-1] |= inner
        elif character == "|" or _is_unbounded(plain[place:]):
            risky[-1] = True
    return False


def _is_unbounded(rest: str) -> bool:
    """Whether a text begins with a quantifier that takes many."""
    found = re.match(r"[*+]|\{(\d*),?(\d*)\}", rest)
    return bool(found) and (rest[0] in "*+" or "," in found[0] or int(found[1] or 0) > 10)  # type: ignore[index]


def _without_classes(pattern: str) -> str:
    """Return the pattern with every escaped character, and every class, as one harmless letter."""
    plain = re.sub(r"\\.", "a", pattern, flags=re.DOTALL)
    return re.sub(r"\[\^?\]?[^\]]*\]", "a", plain)
