"""The file that describes what is built: a project's ``group_data/builders.py``."""

import runpy
from pathlib import Path
from typing import Any

from fleetflash.build.board_type import BoardType, read_board_types
from fleetflash.build.errors import BuildError
from fleetflash.build.toolchain import Toolchain, read_toolchains

TYPES = Path("group_data/builders.py")


def read_types_file(path: Path) -> tuple[dict[str, Toolchain], dict[str, BoardType]]:
    """Return its toolchains and board types by name; raises ``BuildError`` in one line that names the file."""
    try:
        data: dict[str, Any] = runpy.run_path(str(path))
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}; give the file with --types") from None
    except Exception as error:  # a user's Python file can raise anything
        raise BuildError(f"{path}: {type(error).__name__}: {error}") from None
    toolchains = read_toolchains(data.get("toolchains", {}))
    return toolchains, read_board_types(data.get("board_types", {}), toolchains)
