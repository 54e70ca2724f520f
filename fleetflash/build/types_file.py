"""The file that describes what is built: a project's ``group_data/builders.py``."""

import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetflash.build.board_type import BoardType, read_board_types
from fleetflash.build.errors import BuildError
from fleetflash.build.idf.esp_idf import EspIdf, read_esp_idf
from fleetflash.build.idf.gateway_type import GatewayType, read_gateway_types
from fleetflash.build.toolchain import Toolchain, read_toolchains

TYPES = Path("group_data/builders.py")


@dataclass(frozen=True)
class Types:
    """What can be built, and with what, by name."""

    toolchains: dict[str, Toolchain]
    boards: dict[str, BoardType]
    esp_idf: dict[str, EspIdf]
    gateways: dict[str, GatewayType]


def read_types_file(path: Path) -> Types:
    """Read it; raises ``BuildError`` in one line that names the file."""
    try:
        data: dict[str, Any] = runpy.run_path(str(path))
    except OSError as error:
        raise BuildError(f"{path}: {error.strerror}; give the file with --types") from None
    except Exception as error:  # a user's Python file can raise anything
        raise BuildError(f"{path}: {type(error).__name__}: {error}") from None
    toolchains = read_toolchains(data.get("toolchains", {}))
    boards = read_board_types(data.get("board_types", {}), toolchains)
    esp_idf = read_esp_idf(data.get("esp_idf", {}))
    gateways = read_gateway_types(data.get("gateway_types", {}), esp_idf)
    if both := sorted(boards.keys() & gateways.keys()):
        raise BuildError(f"{both[0]!r} is a board type and a gateway type; rename one of them")
    return Types(toolchains, boards, esp_idf, gateways)
