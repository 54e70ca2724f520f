#!/usr/bin/env python
"""The entry of a small ESP-IDF: ``idf.py [-D NAME=VALUE]… reconfigure | build | size | test``."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

IDF_PATH = Path(os.environ["IDF_PATH"])
VERSION = (IDF_PATH / "version.txt").read_text().strip()
TARGETS = ("esp32", "esp32s3", "esp32c3")


def main() -> int:
    parser = argparse.ArgumentParser(prog="idf.py")
    parser.add_argument("-D", dest="definitions", action="append", default=[])
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--list-targets", action="store_true")
    parser.add_argument("actions", nargs="*", metavar="reconfigure | build | size | test")
    arguments = parser.parse_args()
    if arguments.version:
        print(f"ESP-IDF {VERSION}")
    elif arguments.list_targets:
        print("\n".join(TARGETS))
    else:
        definitions = dict(definition.split("=", 1) for definition in arguments.definitions)
        project = Project(Path.cwd(), definitions)
        for action in arguments.actions:
            print(f"Executing action: {action}", flush=True)
            getattr(project, action)()
    return 0


class Project:
    """The project in a directory; ``definitions``: CMake's variables."""

    def __init__(self, path: Path, definitions: dict[str, str]) -> None:
        self.path, self.output = path, path / "build"
        text = (path / "CMakeLists.txt").read_text()
        self.name = re.search(r"^project\(([\w-]+)\)", text, re.MULTILINE)[1]
        self.target = os.environ.get("IDF_TARGET", "esp32")
        self.sdkconfig = Path(definitions.get("SDKCONFIG", path / "sdkconfig"))
        own = path / "sdkconfig.defaults"
        usual = str(own) if own.is_file() else ""
        self.defaults = [name for name in definitions.get("SDKCONFIG_DEFAULTS", usual).split(";") if name]

    def reconfigure(self) -> None:
        """As ESP-IDF's kconfig.cmake does it: the lists of Kconfig files, then kconfgen."""
        self.output.mkdir(exist_ok=True)
        roots = [*sorted((IDF_PATH / "components").iterdir()), self.path / "main"]
        found = {name: [root / name for root in roots if (root / name).is_file()] for name in
                 ("Kconfig", "Kconfig.projbuild")}  # fmt: skip
        lists = {"Kconfig": "kconfigs.in", "Kconfig.projbuild": "kconfigs_projbuild.in"}
        for name, paths in found.items():
            (self.output / lists[name]).write_text("".join(f'source "{path}"\n' for path in paths))
        environment = {
            "COMPONENT_KCONFIGS": ";".join(map(str, found["Kconfig"])),
            "COMPONENT_KCONFIGS_PROJBUILD": ";".join(map(str, found["Kconfig.projbuild"])),
            "COMPONENT_SDKCONFIG_RENAMES": "",
            "IDF_CMAKE": "y",
            "IDF_ENV_FPGA": "",
            "IDF_PATH": str(IDF_PATH),
            "IDF_TARGET": self.target,
            "IDF_TOOLCHAIN": "gcc",
            "IDF_VERSION": VERSION.removeprefix("v"),
            "COMPONENT_KCONFIGS_SOURCE_FILE": str(self.output / "kconfigs.in"),
            "COMPONENT_KCONFIGS_PROJBUILD_SOURCE_FILE": str(self.output / "kconfigs_projbuild.in"),
        }
        (self.output / "config.env").write_text(json.dumps(environment))
        config = self.output / "config"
        config.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "kconfgen", "--list-separator=semicolon"]
        command += ["--kconfig", str(IDF_PATH / "Kconfig"), "--sdkconfig-rename", str(IDF_PATH / "sdkconfig.rename")]
        command += ["--config", str(self.sdkconfig), "--env-file", str(self.output / "config.env")]
        for layer in self.defaults:
            command += ["--defaults", layer]
            if Path(f"{layer}.{self.target}").is_file():
                command += ["--defaults", f"{layer}.{self.target}"]
        command += [
            "--output",
            "header",
            str(config / "sdkconfig.h"),
            "--output",
            "json",
            str(config / "sdkconfig.json"),
        ]
        command += ["--output", "config", str(self.sdkconfig)]
        run(command)

    def build(self) -> None:
        self.reconfigure()
        for source in sorted((self.path / "main").glob("*.c")):
            print(f"Building C object {source.name}", flush=True)
            run(["gcc", "-fsyntax-only", "-Wall", "-Werror", f"-I{self.output / 'config'}", str(source)])
        # Loaded only here, since esptool takes its time.
        import images

        images.build(self)

    def size(self) -> None:
        application = (self.output / f"{self.name}.bin").stat().st_size
        print(f"Total image size: {application} bytes")

    def test(self) -> None:
        failed = []
        for source in sorted((self.path / "test").glob("*/test.c")):
            suite = self.output / source.parent.name
            suite.mkdir(parents=True, exist_ok=True)
            run(["gcc", "-o", str(suite / "test"), str(source)])
            with open(suite / "test.log", "w") as log:
                code = subprocess.run([suite / "test"], stdout=log, stderr=log).returncode
            print(f"{suite.name}: {'FAIL' if code else 'PASS'}", flush=True)
            failed += [suite.name] if code else []
        if failed:
            sys.exit(f"error: failed suites: {', '.join(failed)}")

    def version(self) -> str:
        """As ESP-IDF finds it: PROJECT_VER, ``version.txt``, or what git says."""
        told = self.path / "version.txt"
        if told.is_file():
            return told.read_text().strip()
        return run(["git", "describe", "--always", "--tags", "--dirty"], quiet=True).strip()

    def configuration(self) -> dict[str, object]:
        return json.loads((self.output / "config/sdkconfig.json").read_text())


def run(command: list[str], quiet: bool = False) -> str:
    answer = subprocess.run(command, stdout=subprocess.PIPE if quiet else None, text=True)
    if answer.returncode:
        sys.exit(f"ninja: build stopped: {command[0]} failed with exit code {answer.returncode}")
    return answer.stdout or ""


if __name__ == "__main__":
    sys.exit(main())
