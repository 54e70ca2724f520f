"""Canaries: a few hosts go first, and the rest only when they are well."""

from collections.abc import Mapping, Sequence

#: What a canary's boards may have come to for it to be well.
WELL = frozenset({"flashed", "current"})


class CanaryDataError(Exception):
    """``canary`` or ``max_failed_percent`` isn't a sensible number. One line."""


def read_count(value: object) -> int:
    """Return how many canaries ``--data canary=N`` asks for."""
    return _natural("canary", value, 10_000)


def read_percent(value: object) -> int:
    """Return the share of failed canaries, in whole percent, that still lets the rest go on."""
    return _natural("max_failed_percent", value, 100)


def choose(hosts: Sequence[str], count: int) -> frozenset[str]:
    """Return the canaries: the first ``count`` hosts in the inventory's order."""
    return frozenset(hosts[:count])


def verdict(results: Mapping[str, Sequence[str]], max_failed_percent: int) -> str:
    """Say why the rest must not go on; empty when it may.

    ``results``: each canary's boards' results. A canary that was not brought to its firmware (deferred, offline)
    proves nothing: when none was, nobody knows whether the firmware is good. Integers only: 1 of 20 is not more
    than 5 %.
    """
    failed = sorted(host for host, words in results.items() if any(word in _BAD for word in words))
    well = [host for host, words in results.items() if words and all(word in WELL for word in words)]
    if 100 * len(failed) > max_failed_percent * len(results):
        return (
            f"{len(failed)} of {len(results)} canaries failed ({', '.join(failed)}), allowed are {max_failed_percent} %"
        )
    if not well:
        return f"none of the {len(results)} canaries could be brought to its firmware, so nothing is known of it"
    return ""


_BAD = frozenset({"failed", "restored", "needs-attention"})


def _natural(key: str, value: object, largest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= largest:
        raise CanaryDataError(f"{key}: expected a whole number from 0 to {largest}, found {value!r}")
    return value
