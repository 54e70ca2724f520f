"""Where the files of a printer lie on its host, what is in those that are fleetflash's, and how they are there."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from fleetflash.boards import Board
from fleetflash.host_state import Instance
from fleetflash.provision import expected, printer_cfg
from fleetflash.provision.expected import Expected

UNITS = "/etc/systemd/system"
TEMPLATES = Path("templates")
#: As KIAUH lays them out, below a printer's data.
FOLDERS = ("", "config", "logs", "comms", "gcodes", "systemd")


def folders(instance: Instance) -> list[str]:
    return [f"{instance.data}/{folder}".rstrip("/") for folder in FOLDERS]


def sections(instance: Instance) -> str:
    """Return the path of the boards' sections."""
    return f"{instance.config}/{printer_cfg.FILE}"


def configuration(instance: Instance) -> str:
    return f"{instance.config}/printer.cfg"


def moonraker_configuration(instance: Instance) -> str:
    return f"{instance.config}/moonraker.conf"


def unit(service: str) -> str:
    return f"{UNITS}/{service}"


def rendered(template: str, **values: Any) -> str:
    """Return the text of a file in ``templates/``; raises ``OSError`` and jinja2's ``TemplateError``."""
    return _template(TEMPLATES.absolute() / template).render(**values)


@lru_cache(maxsize=8)
def _template(path: Path) -> Template:
    return Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(path.read_text())


def expected_folders(instance: Instance, user: str) -> list[Expected]:
    return [expected.folder(path, user, "755") for path in folders(instance)]


def expected_sections(instance: Instance, user: str, boards: Sequence[Board]) -> Expected:
    return expected.file(sections(instance), printer_cfg.mcu_sections(boards), user, "644")


def expected_include(instance: Instance) -> Expected:
    return expected.line(configuration(instance), printer_cfg.INCLUDE)


def expected_moonraker_configuration(instance: Instance) -> Expected:
    return expected.present(moonraker_configuration(instance))


def expected_unit(service: str, text: str) -> Expected:
    return expected.file(unit(service), text, "root", "644")
