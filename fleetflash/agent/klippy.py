"""What klippy says of itself, through its API server's unix socket.

Source of the facts: Klipper's ``docs/API_Server.md``: JSON objects, each ended by the byte 0x03; ``info`` gives the
host's state, ``objects/query`` the status of printer objects.
"""

import json
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from fleetflash.agent.observed import Firmware, McuSection

END = b"\x03"
#: No answer of klippy's is longer, in bytes (a whole configuration has some 100 KiB).
MAX_ANSWER = 8 * 1024 * 1024


class KlippyError(Exception):
    """klippy can't be asked. The message names the socket."""


@dataclass
class Status:
    """``state``: ready, startup, shutdown or error; ``mcus``: klippy's name of each MCU → what it runs.

    ``version``, ``path``, ``python``: of klippy itself, where its code lies and the interpreter that runs it.
    ``sections``: the ``[mcu]`` sections that it was configured with, if they were asked for; a board on a CAN bus has
    ``canbus_uuid`` and ``canbus_interface`` instead of ``serial`` (Klipper ``docs/Config_Reference.md``).
    """

    state: str
    message: str = ""
    print_state: str = ""
    paused: bool = False
    mcus: Dict[str, Firmware] = field(default_factory=dict)
    version: str = ""
    path: str = ""
    python: str = ""
    sections: List[McuSection] = field(default_factory=list)

    @property
    def prints(self) -> bool:
        """Whether a print is going on, or only paused: nobody may stop it."""
        return self.print_state in ("printing", "paused") or self.paused


class _Session:
    def __init__(self, path: str, timeout: float):
        self.path = path
        self.deadline = time.monotonic() + timeout
        self.buffer = b""
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.settimeout(timeout)
            self.socket.connect(path)
        except OSError as error:
            self.socket.close()
            raise KlippyError(f"{path}: {error.strerror or error}") from error

    def call(self, method: str, parameters: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        request = {"id": 1, "method": method, "params": parameters or {}}
        try:
            self.socket.sendall(json.dumps(request).encode() + END)
            while True:
                answer = json.loads(self._message())
                if isinstance(answer, dict) and answer.get("id") == 1:
                    break
        except (OSError, ValueError, RecursionError) as error:
            raise KlippyError(f"{self.path}: {method}: {error}") from error
        if "error" in answer:
            said = answer["error"]
            raise KlippyError(f"{self.path}: {method}: {said.get('message') if isinstance(said, dict) else said}")
        result = answer.get("result", {})
        if not isinstance(result, dict):
            raise KlippyError(f"{self.path}: {method}: expected an object, got {result!r:.80}")
        return result

    def _message(self) -> bytes:
        while END not in self.buffer:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise OSError("no answer in time")
            self.socket.settimeout(left)
            piece = self.socket.recv(65536)
            if not piece:
                raise OSError("klippy closed the connection")
            self.buffer += piece
            if len(self.buffer) > MAX_ANSWER:
                raise OSError(f"its answer is longer than {MAX_ANSWER} bytes")
        message, self.buffer = self.buffer.split(END, 1)
        return message


def status(path: str, timeout: float = 5.0, sections: bool = False) -> Status:
    """Ask klippy behind the socket ``path``; raises ``KlippyError`` without an answer within ``timeout`` seconds.

    ``sections`` are asked for in the same query: while Moonraker is subscribed, klippy answers queries only every
    0.25 s (``klippy/webhooks.py``, ``SUBSCRIPTION_REFRESH_TIME``).
    """
    session = _Session(path, timeout)
    try:
        info = session.call("info")
        result = Status(
            state=str(info.get("state", "")),
            message=str(info.get("state_message", "")),
            version=str(info.get("software_version", "")),
            path=str(info.get("klipper_path", "")),
            python=str(info.get("python_path", "")),
        )
        try:
            names = _mcu_names(session)
            query: Dict[str, Any] = dict.fromkeys(names)
            query.update({"print_stats": ["state"], "pause_resume": ["is_paused"], "idle_timeout": ["state"]})
            if sections:
                query["configfile"] = ["settings"]
            found = session.call("objects/query", {"objects": query}).get("status", {})
        except KlippyError:
            if result.state in ("startup", "error"):
                return result  # klippy has no objects to ask for until its configuration is loaded
            raise
    finally:
        session.socket.close()
    result.print_state = _print_state(found)
    result.paused = bool(found.get("pause_resume", {}).get("is_paused", False))
    for name in names:
        result.mcus[name[4:] if name.startswith("mcu ") else name] = _firmware(found.get(name, {}))
    result.sections = _sections(found.get("configfile", {}).get("settings", {}), result.mcus)
    return result


def never_opened(path: str, pid: int) -> bool:
    """Whether a process is a klippy that shall open this socket and never has: it hangs in its start, or still starts.

    It has no printer yet, and so prints nothing: klippy opens the socket before it reads its configuration
    (``klippy/webhooks.py``, ``add_early_printer_objects``), and an exception before that leaves it alive, since the
    thread that writes its log goes on. Linux, proc(5): ``/proc/net/unix`` has bound sockets, whether or not their file
    was removed.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        bound = Path("/proc/net/unix").read_text(errors="replace")
    except OSError:
        return False
    told = any(words[at : at + 2] in (["-a", path], ["--api-server", path]) for at in range(len(words)))
    return told and not any(line.endswith(f" {path}") for line in bound.splitlines())


def query(path: str, objects: List[str], timeout: float = 5.0) -> Dict[str, Any]:
    """Return what klippy says of printer objects: name → its fields, none for an object that it does not know.

    Raises ``KlippyError`` without an answer within ``timeout`` seconds.
    """
    session = _Session(path, timeout)
    try:
        found = session.call("objects/query", {"objects": dict.fromkeys(objects)}).get("status")
    finally:
        session.socket.close()
    # One that klippy does not know has no fields.
    return {name: fields for name, fields in found.items() if fields} if isinstance(found, dict) else {}


def _sections(settings: Dict[str, Any], running: Dict[str, Firmware]) -> List[McuSection]:
    sections = []
    for title, options in sorted(settings.items()):
        name = title[4:] if title.startswith("mcu ") else title
        port = _section_port(options) if title == "mcu" or title.startswith("mcu ") else ""
        if port:
            firmware = running.get(name, Firmware(source="none", error="klippy is not connected to it"))
            sections.append(McuSection(name, port, int(options.get("baud", 250000)), firmware))
    return sections


def _section_port(options: Dict[str, Any]) -> str:
    if options.get("canbus_uuid"):
        return f"{options.get('canbus_interface', 'can0')}:{str(options['canbus_uuid']).lower()}"
    return str(options.get("serial") or "")


def wait_until_answers(path: str, timeout: float) -> Status:
    """Return klippy's status, whatever it is; raises ``KlippyError`` when it says nothing in time (seconds)."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return status(path, timeout=max(0.1, min(5.0, deadline - time.monotonic())))
        except KlippyError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def wait_until_ready(path: str, timeout: float) -> Status:
    """Return klippy's status once it is ``ready``.

    Raises ``KlippyError`` with klippy's own message when it ends in ``error`` or ``shutdown``, or isn't ready in time.
    """
    deadline = time.monotonic() + timeout
    last = "it did not open its socket"
    failing_since = 0.0
    while time.monotonic() < deadline:
        try:
            found = status(path, timeout=max(0.1, min(5.0, deadline - time.monotonic())))
        except KlippyError as error:
            last = str(error)
        else:
            if found.state == "ready":
                return found
            last = f"state {found.state}: {' '.join(found.message.split())}"
            if found.state in ("error", "shutdown"):
                # A board that has only just restarted can fail klippy's first attempt; its own retry then succeeds.
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > 10.0:
                    break
            else:
                failing_since = 0.0
        time.sleep(0.1)
    raise KlippyError(f"klippy is not ready: {last}")


def _print_state(found: Dict[str, Any]) -> str:
    """Whoever prints without virtual_sdcard (OctoPrint) shows only in idle_timeout.

    Of an object that it does not have, klippy answers ``None`` for every field.
    """
    stated = str(found.get("print_stats", {}).get("state") or "")
    idle = str(found.get("idle_timeout", {}).get("state") or "")
    if idle == "Printing" and stated not in ("printing", "paused"):
        return "printing"
    return stated or ("standby" if idle in ("Idle", "Ready") else "")


def _mcu_names(session: _Session) -> List[str]:
    objects = session.call("objects/list").get("objects", [])
    return [name for name in objects if name == "mcu" or name.startswith("mcu ")]


def _firmware(fields: Dict[str, Any]) -> Firmware:
    version = str(fields.get("mcu_version", ""))
    if not version:
        return Firmware(source="none", error="klippy is not connected to it")
    return Firmware(
        source="klippy",
        version=version,
        build_versions=str(fields.get("mcu_build_versions", "")),
        constants=dict(fields.get("mcu_constants", {})),
    )
