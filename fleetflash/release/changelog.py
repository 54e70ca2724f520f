"""A changelog's entry, drafted from releases. Pure."""

from collections.abc import Iterable
from itertools import groupby

from fleetflash.release.release import Release


def draft(releases: Iterable[Release]) -> str:
    """Return Markdown: a heading for each firmware and version, newest first, and a line for each site.

    What changed for whoever uses it, only a person can write: the first line of an entry asks for it.
    """
    newest = sorted(releases, key=lambda release: release.at, reverse=True)
    order = {key: number for number, key in reversed(list(enumerate(_key(release) for release in newest)))}
    ordered = sorted(newest, key=lambda release: (order[_key(release)], release.site, release.board))
    return "\n".join(_entry(list(group)) for _, group in groupby(ordered, _key))


def _key(release: Release) -> tuple[str, str, str]:
    return release.firmware, release.version, release.artifact


def _entry(releases: list[Release]) -> str:
    first = releases[0]
    commit = f"commit {first.commit[:12]}" if first.commit else "commit unknown"
    idf = f"ESP-IDF {first.idf_version}" if first.idf_version else "ESP-IDF unknown"
    last = max(release.at for release in releases)
    lines = [
        f"## {first.firmware} {first.version} ({last:%Y-%m-%d})",
        "",
        "- (what changes for those who use it)",
        f"- {first.chip}, {commit}, {idf}, artifact sha256:{first.artifact[:12]}",
    ]
    for site, group in groupby(releases, lambda release: release.site):
        of_site = list(group)
        names = ", ".join(dict.fromkeys(f"{each.host}/{each.board}" for each in of_site))
        lines.append(f"- {site}: {names}; {_proof(of_site)}, by {', '.join(sorted({e.operator for e in of_site}))}")
    return "\n".join(lines) + "\n"


def _proof(releases: list[Release]) -> str:
    checks = sum(len(release.checks) for release in releases)
    retried = sum(len(release.boots) > 1 for release in releases)
    boots = "boot accepted" if all(release.boots for release in releases) else "boot not judged"
    return f"{checks} checks, {boots}" + (f" ({retried} on a retry)" if retried else "")
