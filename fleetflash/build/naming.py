"""Whatever goes wrong with a build says of what."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleetflash.build.errors import BuildError


@contextmanager
def named(what: str, cache: Path) -> Iterator[None]:
    """Put ``what`` before the message of a ``BuildError``, and make one of an ``OSError``, such as a full disk."""
    try:
        yield
    except BuildError as error:
        raise type(error)(f"{what}: {error}") from None
    except OSError as error:
        where = error.filename or cache
        raise BuildError(
            f"{what}: {where}: {error.strerror or error}; free space there, or give another cache"
        ) from None
