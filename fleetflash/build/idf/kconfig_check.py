"""What an ESP-IDF project's Kconfig made of each line that was asked for: run by the Python of ESP-IDF.

    python kconfig_check.py KCONFIG CONFIG_ENV SDKCONFIG EXPLANATION <asked.json >found.json

``KCONFIG``: the root of the tree, ``$IDF_PATH/Kconfig``. ``CONFIG_ENV``: ``build/config.env``, which names the Kconfig
files of all components. ``SDKCONFIG``: what ESP-IDF made. ``EXPLANATION``: the path of ``kconfig_explanation.py``.
Asked is a JSON object: symbol → value as a configuration writes it. Printed is one with those symbols that did not
become what was asked for: symbol → ``{"became": value or null, "reason": phrase}``, where the phrase names the place
in the menu. Values come in and go out by pipes only, since they may be secrets.

Source: ESP-IDF guide, "Configuration Files Structure and Relationships" (``sdkconfig.rename``, of whose lines a leading
``!`` inverts), and esp-idf-kconfig, ``kconfgen`` (``--env-file``, ``COMPONENT_SDKCONFIG_RENAMES``). Needs that package,
of version 2 (``kconfiglib``) or 3 (``esp_kconfiglib``); exit code 3 when it is not there.
"""

import importlib.util
import inspect
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

#: Exit code when the library is not there.
NO_LIBRARY = 3
_RENAMED = re.compile(r"\s*CONFIG_(\w+)\s+(!?)CONFIG_(\w+)")


def main() -> int:
    # The modules beside this one have names that others may have, too.
    sys.path.remove(str(Path(__file__).parent))
    kconfiglib = load_library()
    if kconfiglib is None:
        return NO_LIBRARY
    kconfig, config_env, sdkconfig, explanation = sys.argv[1:]
    asked = json.load(sys.stdin)
    # What the library prints itself holds values, and would be in the way of the answer.
    answer, sys.stdout = sys.stdout, sys.stderr
    with open(config_env, encoding="utf-8") as file:
        os.environ.update(json.load(file))
    configuration = read_tree(kconfiglib, kconfig)
    configuration.load_config(sdkconfig)
    explain = load_explanation(explanation)
    renamed = read_renamed(kconfig)
    found = {}
    for name, wanted in asked.items():
        symbol = configuration.syms.get(name)
        exists = symbol is not None and bool(symbol.nodes)
        became = written(kconfiglib, symbol) if exists else None
        wrong = wrong_type(kconfiglib, symbol, wanted) if exists else ""
        if became is not None and not wrong and is_same(kconfiglib, symbol, wanted, became):
            continue
        reason = explain(kconfiglib, configuration, name)
        if not exists and name in renamed:
            reason = f"it is now called {renamed[name]}"
        elif wrong:
            reason = f"{wrong}; {reason}"
        found[name] = {"became": became, "reason": reason}
    json.dump(found, answer)
    return 0


def load_library() -> Any:
    for name in ("esp_kconfiglib.core", "esp_kconfiglib", "kconfiglib.core", "kconfiglib"):
        try:
            found = importlib.import_module(name)
        except ImportError:
            continue
        if hasattr(found, "Kconfig"):
            return found
    return None


def read_tree(kconfiglib: Any, kconfig: str) -> Any:
    """Parse the tree as ESP-IDF does, with the same version of the parser, and without words."""
    wanted = {
        "warn": False,
        "parser_version": int(os.environ.get("KCONFIG_PARSER_VERSION", "1")),
        "print_report": False,
    }
    known = inspect.signature(kconfiglib.Kconfig.__init__).parameters
    return kconfiglib.Kconfig(kconfig, **{name: value for name, value in wanted.items() if name in known})


def load_explanation(path: str) -> Any:
    specification = importlib.util.spec_from_file_location("kconfig_explanation", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.explain


def read_renamed(kconfig: str) -> dict[str, str]:
    """Return former name → name of now, of ESP-IDF itself and of all components."""
    paths = [str(Path(kconfig).with_name("sdkconfig.rename"))]
    paths += re.split(r"[; ]", os.environ.get("COMPONENT_SDKCONFIG_RENAMES", ""))
    found = {}
    for path in filter(os.path.isfile, paths):
        with open(path, encoding="utf-8") as file:
            for match in filter(None, map(_RENAMED.match, file)):
                found[match[1]] = f"{match[3]}, the other way round" if match[2] else match[3]
    return found


def written(kconfiglib: Any, symbol: Any) -> str | None:
    """Return a symbol's value as a configuration writes it; ``None`` when it does not, except for a no."""
    value = str(symbol.str_value)
    if symbol.type == kconfiglib.BOOL:
        return value
    if not symbol.config_string:
        return None
    if symbol.type != kconfiglib.STRING:
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def is_same(kconfiglib: Any, symbol: Any, wanted: str, became: str) -> bool:
    if symbol.type in (kconfiglib.INT, kconfiglib.HEX):
        base = 10 if symbol.type == kconfiglib.INT else 16
        return int(wanted, base) == int(became, base)
    return became == wanted


def wrong_type(kconfiglib: Any, symbol: Any, wanted: str) -> str:
    """Say that a value is of another type than its symbol; empty when it is not.

    Kconfig would take 500 for a hexadecimal symbol, and mean 0x500.
    """
    if symbol.type == kconfiglib.STRING:
        return "" if wanted.startswith('"') else "a text is wanted, in quotes"
    if symbol.type == kconfiglib.INT:
        return "" if re.fullmatch(r"-?\d+", wanted) else "a decimal number is wanted"
    if symbol.type == kconfiglib.HEX:
        return "" if re.fullmatch(r"0[xX][0-9a-fA-F]+", wanted) else "a hexadecimal number is wanted, as text with 0x"
    return "" if wanted in ("y", "n") else "True or False is wanted"


if __name__ == "__main__":
    sys.exit(main())
