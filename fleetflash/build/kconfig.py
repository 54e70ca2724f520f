"""The lines of a Kconfig configuration: read, compared, and written from values.

Source: the Linux kernel's ``Documentation/kbuild/kconfig-language.rst`` and ``kconfiglib``'s ``Kconfig.write_config``:
``CONFIG_NAME=value`` with ``y``, a number, ``0x…`` or a quoted string, and ``# CONFIG_NAME is not set`` for no.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetflash.build.errors import ConfigurationError

_SET = re.compile(r"CONFIG_([A-Za-z0-9_]+)=(.*)")
_NOT_SET = re.compile(r"# CONFIG_([A-Za-z0-9_]+) is not set")
_DECLARED = re.compile(r"^[ \t]*(?:menu)?config[ \t]+([A-Za-z0-9_]+)[ \t]*$", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9_]+")
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]+")


@dataclass(frozen=True)
class Change:
    """A symbol's values as a configuration writes them; ``None`` where it is absent."""

    symbol: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"CONFIG_{self.symbol}: {_shown(self.before)} → {_shown(self.after)}"


def parse(text: str) -> dict[str, str]:
    """Return symbol → value (``n`` for *is not set*); raises ``ConfigurationError`` for a line that is none."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if match := _SET.fullmatch(line):
            symbol, value = match[1], match[2]
        elif match := _NOT_SET.fullmatch(line):
            symbol, value = match[1], "n"
        elif not line or line.startswith("#"):
            continue
        else:
            raise ConfigurationError(
                f"line {number} is {line!r:.80}, expected CONFIG_NAME=value or '# CONFIG_NAME is not set'"
            )
        if found.setdefault(symbol, value) != value:
            raise ConfigurationError(f"CONFIG_{symbol} is asked for twice, as {found[symbol]} and as {value}")
    return found


def write_line(symbol: str, value: object) -> str:
    """Return the line that gives a symbol a value: a boolean, a number, or text (``0x…`` is a number, too)."""
    if not _NAME.fullmatch(symbol):
        raise ConfigurationError(f"{symbol!r} is no name of a symbol; write it as in Kconfig, without CONFIG_")
    if value is False:
        return f"# CONFIG_{symbol} is not set"
    if value is True:
        return f"CONFIG_{symbol}=y"
    if isinstance(value, int):
        return f"CONFIG_{symbol}={value}"
    if isinstance(value, str) and value.isprintable():
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        written = value if _HEXADECIMAL.fullmatch(value) else f'"{quoted}"'
        return f"CONFIG_{symbol}={written}"
    raise ConfigurationError(f"CONFIG_{symbol} is {value!r:.80}, expected True, False, a number or printable text")


def lost(wanted: Mapping[str, str], effective: Mapping[str, str], declared: frozenset[str]) -> list[Change]:
    """Return what of ``wanted`` did not survive; ``after`` is what became of it.

    A symbol that is declared and absent is off, which is what was wanted of those that should be ``n``.
    """
    return [
        Change(symbol, value, effective.get(symbol))
        for symbol, value in wanted.items()
        if not _same(value, effective.get(symbol, "n" if symbol in declared else None))
    ]


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> list[Change]:
    """Return the symbols that differ between two configurations, in alphabetical order."""
    return [
        Change(symbol, before.get(symbol), after.get(symbol))
        for symbol in sorted({*before, *after})
        if before.get(symbol) != after.get(symbol)
    ]


def declared_symbols(tree: Path) -> frozenset[str]:
    """Return the names of all symbols in the Kconfig files of a source tree."""
    names: set[str] = set()
    for path in sorted(tree.joinpath("src").rglob("Kconfig*")):
        names.update(_DECLARED.findall(path.read_text(errors="replace")))
    return frozenset(names)


def _same(wanted: str, found: str | None) -> bool:
    if found is None or wanted == found:
        return wanted == found
    try:
        return int(wanted, 0) == int(found, 0)
    except ValueError:
        return False


def _shown(value: str | None) -> str:
    return "absent" if value is None else value
