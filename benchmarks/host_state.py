"""What a host has of a site, in lines that can be compared: files, units, packages and groups."""

import difflib

from fleetflash.lab.host import Host

# Names of versions of a virtualenv hold the moment when they were made, and so do their scripts; bytecode, klippy's
# compiled helper, logs and Moonraker's database are made by what runs.
_PROGRAM = r"""
import hashlib, os, pwd, re, stat, subprocess
HOME = "/home/pi"
PLACES = ["/etc/sudoers.d", "/etc/systemd/system", f"{HOME}/printer_data/config", f"{HOME}/klipper",
          f"{HOME}/klippy-env", f"{HOME}/moonraker-env", *(f"{HOME}/printer_data/{name}" for name in ("", "logs",
          "comms", "gcodes", "systemd"))]
HIDDEN = re.compile(r"/(\.git|__pycache__)(/|$)")
MADE = re.compile(r"\.(so|pyc)$|/RECORD$|/pyvenv\.cfg$|/klippy/\.version$|-env/bin/|/\.moonraker\.uuid$")
FLAT = {f"{HOME}/printer_data/{name}" for name in ("", "logs", "comms", "gcodes", "systemd")}

def tell(path, shown):
    found = os.lstat(path)
    owner = pwd.getpwuid(found.st_uid).pw_name
    words = [shown, stat.filemode(found.st_mode), owner]
    if stat.S_ISREG(found.st_mode):
        with open(path, "rb") as file:
            words.append(hashlib.sha256(file.read()).hexdigest()[:16])
    elif stat.S_ISLNK(found.st_mode):
        words.append(re.sub(r"-versions/[^/]+", "-versions/…", os.readlink(path)))
    print(*words)

for place in PLACES:
    if not os.path.lexists(place):
        continue
    tell(place, place)
    if place in FLAT:
        continue
    root = os.path.realpath(place)
    for directory, below, files in os.walk(root):
        for name in below + files:
            path = os.path.join(directory, name)
            shown = place + path[len(root):]
            if not HIDDEN.search(shown) and not (MADE.search(shown) and os.path.isfile(path)):
                tell(path, shown)
for unit in ("klipper.service", "moonraker.service"):
    asked = ["systemctl", "show", unit, "--property=LoadState,ActiveState,UnitFileState,FragmentPath,NeedDaemonReload"]
    print(unit, *subprocess.run(asked, stdout=subprocess.PIPE, text=True).stdout.split())
print("groups", *sorted(subprocess.run(["id", "-Gn", "pi"], stdout=subprocess.PIPE, text=True).stdout.split()))
git = ["runuser", "-u", "pi", "--", "git", "-C", f"{HOME}/klipper"]
ASKED = ("rev-parse HEAD", "status --porcelain", "describe --tags", "config remote.origin.url")
for asked in map(str.split, ASKED):
    print("git", asked[0], *subprocess.run([*git, *asked], stdout=subprocess.PIPE, text=True).stdout.split())
print(subprocess.run(["dpkg-query", "-W"], stdout=subprocess.PIPE, text=True).stdout)
"""


def state_of(host: Host) -> list[str]:
    """Return what a host has, sorted."""
    return sorted(set(host.run("sudo python3 -", stdin=_PROGRAM, check=True).stdout.splitlines()))


def differences(one: list[str], other: list[str]) -> list[str]:
    """Return the lines that only one of them has, with ``-`` or ``+`` before them."""
    compared = difflib.unified_diff(one, other, lineterm="", n=0)
    return [line for line in compared if line[:1] in "+-" and line[:3] not in ("+++", "---")]
