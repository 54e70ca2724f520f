"""Aligned columns of plain text for pipes, logs and files, where nothing may wrap or frame a value."""

from collections.abc import Sequence
from typing import TextIO

from rich.cells import cell_len


def plain(value: str) -> str:
    """Return a value as one line without control characters: what a board says may hold any."""
    return "".join(c if c.isprintable() else " " for c in value).strip() or "-"


def print_columns(
    headers: Sequence[str], rows: Sequence[Sequence[str]], file: TextIO, right: frozenset[int] = frozenset()
) -> None:
    """Print rows under headers, two blanks between columns, as wide as the widest value.

    + right: the indices of columns that are aligned to the right, such as numbers
    """
    table = [list(headers), *([plain(value) for value in row] for row in rows)]
    widths = [max(cell_len(line[column]) for line in table) for column in range(len(headers))]
    for line in table:
        cells = []
        for column, value in enumerate(line):
            blanks = " " * (widths[column] - cell_len(value))
            cells.append(blanks + value if column in right else value + blanks)
        write_line("  ".join(cells).rstrip(), file)


def write_line(text: str, file: TextIO) -> None:
    """Write a line; characters that the file's encoding lacks become ``?`` instead of an error."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    file.write(text.encode(encoding, "replace").decode(encoding) + "\n")
