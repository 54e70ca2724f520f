#!/usr/bin/env python3
"""What installs the tools and the Python environment of this ESP-IDF below ``IDF_TOOLS_PATH``.

As ESP-IDF's own: ``install --targets=…`` adds up, ``install-python-env`` is for the Python that runs it, which must be
in no virtualenv. Each call is a line in ``$IDF_TOOLS_PATH/calls``; with ``tools/broken`` each fails, with its text.
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

HERE = Path(__file__).parent


def install(tools: Path, targets: str) -> None:
    for target in targets.split(","):
        compiler = tools / f"tools/{target}-elf/13.2.0/bin"
        compiler.mkdir(parents=True, exist_ok=True)
    known = tools / "idf-env.json"
    before = json.loads(known.read_text()) if known.exists() else []
    known.write_text(json.dumps(sorted({*before, *targets.split(",")})))


def install_python_env(tools: Path) -> None:
    if sys.prefix != sys.base_prefix:
        sys.exit("ERROR: This script was called from a virtual environment, can not create a virtual environment again")
    packages = json.loads((HERE / "packages.json").read_text())
    python = tools / "python_env/bin/python"
    python.parent.mkdir(parents=True)
    environment = f"PYTHONPATH={shlex.quote(packages['path'])}"
    python.write_text(f'#!/bin/sh\n{environment} exec {shlex.quote(packages["python"])} "$@"\n')
    python.chmod(0o755)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--non-interactive", action="store_true")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("install").add_argument("--targets", default="all")
    actions.add_parser("install-python-env")
    arguments = parser.parse_args()
    tools = Path(os.environ["IDF_TOOLS_PATH"])
    with open(tools / "calls", "a") as calls:
        calls.write(f"{' '.join(sys.argv[1:])} {json.dumps(sorted(os.environ))}\n")
    broken = HERE / "broken"
    if broken.exists():
        print("Downloading")
        sys.exit(f"ERROR: {broken.read_text()}")
    if arguments.action == "install":
        install(tools, arguments.targets)
    else:
        install_python_env(tools)


if __name__ == "__main__":
    main()
