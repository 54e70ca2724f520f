"""Flash tools that are not there: executables that record their arguments and answer as the real ones are documented.

A tool acts on a USB socket in a made-up sysfs, and on a file that stands for the board's flash. ``fault`` in its state
says what goes wrong.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleetflash.agent.usb_socket import UsbSocket

SOCKET = "1-1.2"
BASE = 0x0800_0000

#: Common to all: note the call, then ``answer(state, words)`` prints and returns the exit code.
FRAME = """#!{python}
import json, sys, time
from pathlib import Path
HERE = Path(__file__).parent
state = json.loads((HERE / "state.json").read_text())
words = sys.argv[1:]
with (HERE / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
device = Path(state["device"])
flash = Path(state["flash"])
def become(ids):
    vendor, product = ids.split(":")
    (device / "idVendor").write_text(vendor)
    (device / "idProduct").write_text(product)
def say(*lines):
    print(*lines, sep="\\n")
def after(flag):
    return words[words.index(flag) + 1]
def fail(code, *lines):
    say(*lines)
    sys.exit(code)
if state["fault"] == "hang" and words != state["version_arguments"]:
    import subprocess
    child = subprocess.Popen(["sleep", "600"])
    (HERE / "child").write_text(str(child.pid))
    time.sleep(600)
"""

DFU_UTIL = """
if words == ["--version"]:
    fail(0, "dfu-util " + state["version"], "", "Copyright 2005-2009 Weston Schmidt, Harald Welte and OpenMoko Inc.")
selected = after("-p") == state["path"] and after("-d") == "0483:df11"
if not selected or (device / "idVendor").read_text() != "0483":
    fail(74, "dfu-util: No DFU capable USB device available")
if "-l" in words:
    for alt, name in ((1, "@Option Bytes  /0x1FFFC000/01*016 e"), (0, state["layout"])):
        say(f'Found DFU: [0483:df11] ver=2200, devnum=11, cfg=1, intf=0, path="{state["path"]}", alt={alt}, '
            f'name="{name}", serial="357236543131"')
    sys.exit(0)
address, *rest = after("-s").split(":")
start = int(address, 16) - 0x08000000
data = bytearray(flash.read_bytes())
if "-D" in words:
    if state["fault"] == "erase":
        fail(74, "Erase   \\t[=====    ]  20%", "dfu-util: Error during special command \\"ERASE_PAGE\\" get_status")
    image = Path(after("-D")).read_bytes()
    data[start : start + len(image)] = image
    if state["fault"] == "flip":
        data[start + 5] ^= 1
    flash.write_bytes(data)
    say("Download\\t[=========================] 100%", "Download done.")
    if state["fault"] != "silent":
        say("File downloaded successfully")
else:
    size = int(rest[0])
    target = Path(after("-U"))
    if target.exists():
        fail(73, "dfu-util: Cannot open file for writing: File exists")
    target.write_bytes(bytes(data[start : start + size]))
    say("Upload done.")
    if "leave" in rest:
        become("1d50:614e")
        fail(74, "dfu-util: Error during download get_status")
"""

PICOTOOL = """
if words == ["version"]:
    fail(0, "picotool v" + state["version"] + " (Linux, GNU-12.2.0, Release)")
if after("--bus") != "1" or after("--address") != (device / "devnum").read_text():
    fail(249, "No accessible RP-series devices in BOOTSEL mode were found at bus and address.")
data = bytearray(flash.read_bytes())
command = words[0]
if command == "info":
    say("Device Information", " type:                RP2040", " revision:            B2", " flash size:          2048K")
elif command == "save":
    start, end = (int(word, 16) - 0x10000000 for word in words[2:4])
    Path(words[4]).write_bytes(bytes(data[start:end]))
    say("Saving file: [==============================]  100%")
elif command in ("load", "verify"):
    file = next(word for word in words if word.endswith(".bin"))
    image, start = Path(file).read_bytes(), int(after("-o"), 16) - 0x10000000
    if command == "load":
        data[start : start + len(image)] = image
        if state["fault"] == "flip":
            data[start + 5] ^= 1
        flash.write_bytes(data)
        say("Loading into Flash: [==============================]  100%")
    elif data[start : start + len(image)] != image:
        fail(247, "Verifying Flash:    [=      ]  4%", "  At address 10000005 incorrect value ff")
    else:
        say("  OK")
elif command == "reboot":
    become("1d50:614e")
    say("The device was rebooted into application mode.")
"""

WCHISP = """
if words == ["--version"]:
    fail(0, "wchisp " + state["version"])
if words[:3] != ["--usb", "--device", "0"]:
    fail(2, "error: unexpected argument")
command = words[3]
data = bytearray(flash.read_bytes())
if command == "info":
    say("14:57:06 [INFO] Chip: CH32V203C8T6[0x3119] (Code Flash: 64KiB)",
        "14:57:06 [INFO] Chip UID: CD-AB-1A-35-E2-BD-C9-9E",
        "14:57:06 [INFO] BTVER(bootloader ver): 02.70",
        "14:57:06 [INFO] Code Flash protected: " + ("true" if state["fault"] == "protected" else "false"))
elif command == "flash":
    image = Path(words[-1]).read_bytes()
    data[: len(image)] = image
    if state["fault"] == "flip":
        data[5] ^= 1
    flash.write_bytes(data)
    say("14:57:06 [INFO] Erase done", "14:57:08 [INFO] Writing to code flash...")
elif command == "verify":
    image = Path(words[-1]).read_bytes()
    if data[: len(image)] != image:
        fail(1, "14:57:09 [INFO] Verifying...", "Error: Verify failed, mismatch")
    say("14:57:09 [INFO] Verifying...", "14:57:10 [INFO] Verify OK")
elif command == "reset":
    become("1d50:614e")
"""

FLASHTOOL = """
if words == ["--help"]:
    say("usage: flashtool.py [-h] [-d <serial device>]", "", "Katapult Flash Tool", "", "options:",
        "  -r, --request-bootloader")
    if state["version"] != "old":
        say("  -s, --status          Connect to bootloader and print status")
    sys.exit(0)
if after("-d") != state["tty"]:
    fail(255, "ERROR:root:Flash Error")
say("Attempting to connect to bootloader", "Katapult Connected", "Protocol Version: 1.1.0", "Block Size: 64 bytes",
    "Application Start: " + state["start"], "MCU type: stm32f446xx")
if "-f" in words:
    if state["fault"] == "verify":
        fail(255, "Verifying (block count = 531)...", "flash_can.FlashCanError: Checksum mismatch")
    data = bytearray(flash.read_bytes())
    image = Path(after("-f")).read_bytes()
    data[0x8000 : 0x8000 + len(image)] = image
    flash.write_bytes(data)
    say("Write complete: 34 pages", "Verification Complete: SHA = 9A0A75F1987338EE8D4E1A5736E793B1E63E8914",
        "Programming Complete")
    become("1d50:614e")
"""

MAKE = """
if words == ["--version"]:
    fail(0, "GNU Make " + state["version"], "Built for x86_64-pc-linux-gnu")
image = Path(after("-C"), "out/klipper.bin").read_bytes()
if state["fault"] == "flash":
    fail(2, "Failed to flash to /dev/ttyACM0: Unable to find bootloader",
         "make: *** [src/stm32/Makefile:111: flash] Error 255")
data = bytearray(flash.read_bytes())
data[0x8000 : 0x8000 + len(image)] = image
flash.write_bytes(data)
become("1d50:614e")
"""

PROGRAMS = {"dfu-util": DFU_UTIL, "picotool": PICOTOOL, "wchisp": WCHISP, "flashtool.py": FLASHTOOL, "make": MAKE}


class Bench:
    """One tool, one socket with a board in it, and the board's flash. ``ids``: what the board is on USB now."""

    def __init__(self, root: Path, tool: str, version: str, version_arguments: tuple[str, ...], ids: str) -> None:
        self.root = root
        self.device = root / f"sys/bus/usb/devices/{SOCKET}"
        self.flash = root / "flash.bin"
        self.path = root / "bin" / tool
        self.device.mkdir(parents=True)
        self.path.parent.mkdir()
        self.flash.write_bytes(b"\xff" * 0x1_0000)
        for attribute, value in {"busnum": "1", "devnum": "11", "serial": "357236543131"}.items():
            (self.device / attribute).write_text(value)
        self.become(ids)
        self.state: dict[str, Any] = {
            "version": version,
            "version_arguments": list(version_arguments),
            "device": str(self.device),
            "flash": str(self.flash),
            "path": SOCKET,
            "fault": "",
            "layout": "@Internal Flash  /0x08000000/04*016Kg,01*064Kg,03*128Kg",
            "tty": "/dev/ttyACM0",
            "start": "0x8008000",
        }
        self.change()
        self.path.write_text(FRAME.format(python=sys.executable) + PROGRAMS[tool])
        self.path.chmod(0o755)

    def become(self, ids: str) -> None:
        vendor, product = ids.split(":")
        (self.device / "idVendor").write_text(vendor)
        (self.device / "idProduct").write_text(product)

    def change(self, **state: Any) -> None:
        self.state.update(state)
        (self.path.parent / "state.json").write_text(json.dumps(self.state))

    def calls(self) -> list[list[str]]:
        """The arguments of every call but those for the version."""
        path = self.path.parent / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [words for words in map(json.loads, lines) if words != self.state["version_arguments"]]

    def add_tty(self, name: str = "ttyACM0") -> None:
        (self.device / f"{SOCKET}:1.0" / "tty" / name).mkdir(parents=True)

    def remove_tty(self) -> None:
        for path in self.device.glob(f"{SOCKET}:1.0/tty/*"):
            path.rmdir()

    def socket(self, touched: Callable[[], None] = lambda: None) -> UsbSocket:
        """The socket; ``touched`` is what the firmware does when it is asked for its bootloader."""

        class Touched(UsbSocket):
            def touch(self) -> None:
                touched()

        return Touched(f"usb:{SOCKET}", self.root / "sys")
