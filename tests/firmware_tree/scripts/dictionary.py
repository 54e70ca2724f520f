"""Write the data dictionary as JSON and, compressed, as a C array; version and tools as Klipper's build makes them."""

import argparse
import json
import socket
import subprocess
import time
import zlib
from pathlib import Path

COMMANDS = {"identify offset=%u count=%c": 1}
RESPONSES = {"identify_response offset=%u data=%.*s": 0}


def output_of(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def version(tools_are_known: bool) -> str:
    described = output_of("git", "describe", "--always", "--tags", "--long", "--dirty") if Path(".git").exists() else ""
    if described and "dirty" not in described and tools_are_known:
        return described
    told = Path("klippy/.version")
    base = described or (told.read_text().strip() if told.exists() else "") or "?"
    return f"{base}-{time.strftime('%Y%m%d_%H%M%S')}-{socket.gethostname()}"


def tool_version(tool: str) -> str:
    """The first line of a tool's --version without its name: ``(GCC) 5.4.0``."""
    line = output_of(tool, "--version").partition("\n")[0].removeprefix("GNU ")
    return line.partition(" ")[2]


def constants(config: Path) -> dict[str, int | str]:
    wanted = {"CONFIG_MCU": "MCU", "CONFIG_CLOCK_FREQ": "CLOCK_FREQ", "CONFIG_SERIAL_BAUD": "SERIAL_BAUD"}
    found: dict[str, int | str] = {}
    for line in config.read_text().splitlines():
        key, _, value = line.partition("=")
        if key in wanted:
            found[wanted[key]] = value.strip('"') if value.startswith('"') else int(value)
        if key == "CONFIG_INITIAL_PINS" and value != '""':
            found["INITIAL_PINS"] = value.strip('"')
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--tools", required=True, metavar="CC;OBJCOPY")
    parser.add_argument("--dictionary", type=Path, required=True)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    gcc, binutils = map(tool_version, arguments.tools.split(";"))
    dictionary = {
        "app": "fleetflash test firmware",
        "build_versions": f"gcc: {gcc} binutils: {binutils}",
        "commands": COMMANDS,
        "config": constants(arguments.config),
        "enumerations": {},
        "responses": RESPONSES,
        "version": version(bool(gcc and binutils)),
    }
    text = json.dumps(dictionary, separators=(",", ":"), sort_keys=True)
    arguments.dictionary.write_text(text)
    packed = ",".join(map(str, zlib.compress(text.encode(), 9)))
    arguments.output.write_text(
        '#include "identify.h"\n'
        f"const uint8_t identify_data[] PROGMEM = {{{packed}}};\n"
        "const uint16_t identify_size = sizeof(identify_data);\n"
    )
    print(f"Version: {dictionary['version']}")


if __name__ == "__main__":
    main()
