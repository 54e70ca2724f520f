"""Configurations that are written by jinja2 templates."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jinja2

from fleetflash.build.errors import ConfigurationError


def environment(templates: Path, line: Callable[[str, object], str]) -> jinja2.Environment:
    """Return the environment of a directory of templates; ``{{ symbol | kconfig(value) }}`` writes a ``line``."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["kconfig"] = line
    return found


@contextmanager
def told(templates: Path, name: str) -> Iterator[None]:
    """Raise what is wrong with a template as a ``ConfigurationError`` in one line that names it."""
    try:
        yield
    except jinja2.TemplateNotFound:
        raise ConfigurationError(f"there is no template {templates / name}; correct template") from None
    except jinja2.TemplateError as error:
        where = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        raise ConfigurationError(f"template {name}{where}: {error.message}") from None
