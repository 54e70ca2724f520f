"""One ESP chip behind one port, driven by Espressif's esptool as a library, in a process of its own.

esptool keeps its logger and its configuration in module globals and prints as it goes: so every board gets a process.
It runs in a virtualenv that has esptool; the rest is the agent's. Operations of ``messages.call``:

``connect``
    ``mode`` is ``lines`` (DTR and RTS bring the chip into its ROM loader) or ``held`` (it is there), ``attempts`` how
    often that is tried, ``rate`` the line's bit/s for everything after. Answers ``chip`` (esptool's own word, e.g.
    ``esp32s3``), ``mac`` (12 hexadecimal digits), ``flash_bytes``, and of its security: ``encrypted`` and
    ``secure_download``.
``read``
    Answers the whole flash, of which erased blocks are not read.
``write``, ``verify``
    Take an archive of ``flash_parts``. ``write`` compares first and writes what differs alone; what secure boot would
    not start is refused.
``reset``
    Starts the application: ``mode`` as for ``connect``.
"""

import argparse
import hashlib
import os
import sys
import traceback
from typing import Any, BinaryIO, Callable, Dict, Iterable, List, Tuple

import serial
from esp_pylib.logger import EspLog, EspLogBase
from esptool import cmds
from esptool.util import FatalError, flash_size_bytes

from fleetflash.agent import wire
from fleetflash.agent.protocols.flash_parts import Part, PartsError, pack, unpack
from fleetflash.agent.tools import messages, secure_boot
from fleetflash.agent.tools.messages import Message

#: Flash that is compared at once, in bytes: what differs is written again in steps of this.
BLOCK = 64 * 1024
ERASED = b"\xff"
#: How often a ROM loader that must be there is called.
ATTEMPTS = 5
#: What the chip can erase at once, in bytes.
SECTOR = 4096

Send = Callable[[Message], None]
Receive = Callable[[], Message]


class RefusedError(Exception):
    """``kind`` as in ``messages``."""

    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.kind = kind


class Reporter(EspLogBase):  # type: ignore[misc]
    """esptool's talk goes to standard error, where the agent keeps it; its progress goes to the agent."""

    def __init__(self) -> None:
        self.report: Callable[[int, int], None] = lambda done, total: None

    def print(self, *args: Any, **kwargs: Any) -> None:
        try:
            print(*args, file=sys.stderr, end=str(kwargs.get("end", "\n")), flush=True)
        except OSError:
            pass  # talk that nobody can keep must not end the writing of a board

    err = warn = note = hint = debug = warning = error = print

    def set_verbosity(self, mode: Any) -> None:
        pass

    def progress_bar(
        self, cur_iter: int, total_iters: int, prefix: str = "", suffix: str = "", bar_length: int = 30
    ) -> None:
        self.report(cur_iter, total_iters)


class Worker:
    """``open_port`` returns what esptool takes for a port: a name, or an open pyserial object."""

    def __init__(self, open_port: Callable[[], Any], send: Send, receive: Receive):
        self._open_port = open_port
        self._send = send
        self._receive = receive
        self._esp: Any = None
        self._secure_boot = 0  # its version; 0: not burnt
        self._log = Reporter()
        EspLog.set_logger(self._log)
        self._operations: Dict[str, Callable[[Message, bytes], Tuple[Message, bytes]]] = {
            "connect": self._connect,
            "read": self._read,
            "write": self._write,
            "verify": self._verify,
            "reset": self._reset,
        }

    def serve(self, call: Message) -> None:
        """Carry one call out and answer it."""
        data = messages.collect(int(call.get("bytes", 0)), self._receive)
        try:
            answer, found = self._operations[str(call["operation"])](call, data)
        except RefusedError as error:
            self._fail(error.kind, str(error))
        except PartsError as error:
            self._fail(messages.TOOL, str(error))
        except FatalError as error:
            self._fail(messages.TOOL, _one_line(error))
        except serial.SerialException as error:
            self._fail(messages.PORT, _one_line(error))
        except Exception as error:  # whatever esptool has run into: the board waits for the agent to do something
            traceback.print_exc()
            self._fail(messages.TOOL, f"{type(error).__name__}: {_one_line(error)}")
        else:
            for message in messages.pieces(found):
                self._send(message)
            self._send({"type": "result", "ok": True, **answer})

    def close(self) -> None:
        if self._esp is not None:
            self._esp._port.close()

    # Operations

    def _connect(self, call: Message, data: bytes) -> Tuple[Message, bytes]:
        mode = "default-reset" if call["mode"] == "lines" else "no-reset"
        port = self._open_port()
        try:
            esp = cmds.detect_chip(port, connect_mode=mode, connect_attempts=int(call["attempts"]))
        except FatalError as error:
            raise RefusedError(messages.SILENT, _one_line(error)) from error
        self._esp = esp
        answer = {
            "chip": esp.CHIP_NAME.lower().replace("-", ""),
            "mac": "" if esp.secure_download_mode else bytes(esp.read_mac()).hex(),
            "secure_download": bool(esp.secure_download_mode),
            "flash_bytes": 0,
            "encrypted": False,
        }
        if esp.secure_download_mode:
            return answer, b""
        answer["encrypted"] = bool(esp.get_flash_encryption_enabled())
        if esp.get_secure_boot_enabled():
            self._secure_boot = 1 if esp.get_secure_boot_v1_enabled() else 2
        self._esp = esp = cmds.run_stub(esp)
        if int(call["rate"]) > esp.ESP_ROM_BAUD:
            esp.change_baud(int(call["rate"]))
        cmds.attach_flash(esp)
        answer["flash_bytes"] = flash_size_bytes(cmds.detect_flash_size(esp)) or 0
        if not answer["flash_bytes"]:
            raise RefusedError(messages.TOOL, f"its flash chip ({esp.flash_id():#08x}) does not tell its size")
        esp.flash_set_parameters(answer["flash_bytes"])
        return answer, b""

    def _read(self, call: Message, data: bytes) -> Tuple[Message, bytes]:
        size = self._flash_bytes()
        found = bytearray(ERASED * size)
        # What is erased crosses the line as a digest; much of most flashes is.
        for run in list(_joined(self._changed(Part(0, bytes(found))))):
            before = run.offset

            def report(done: int, total: int, offset: int, before: int = before) -> None:
                self._progress("read", before + done, size)

            found[run.offset : run.end] = self._esp.read_flash(run.offset, len(run.data), report)
        self._progress("read", size, size)
        return {}, pack([Part(0, bytes(found))])

    def _write(self, call: Message, data: bytes) -> Tuple[Message, bytes]:
        parts = self._fitting(unpack(data))
        total = sum(len(part.data) for part in parts)
        looked = written = 0
        for part in parts:
            changed = list(_joined(self._changed(part)))
            looked += len(part.data) - sum(len(run.data) for run in changed)
            for run in changed:
                self._write_run(run, looked, total)
                looked += len(run.data)
                written += len(run.data)
            self._progress("program", looked, total)
        return {"written": written}, b""

    def _write_run(self, run: Part, before: int, total: int) -> None:
        size = len(run.data)
        # esptool counts compressed blocks; what of the image they are is near enough.
        self._log.report = lambda done, of: self._progress("program", before + size * done // max(of, 1), total)
        try:
            # Chip, size and security were checked; its own checks would take the middle of an image for another one.
            cmds.write_flash(self._esp, [(run.offset, run.data)], force=True)
        finally:
            self._log.report = lambda done, of: None

    def _verify(self, call: Message, data: bytes) -> Tuple[Message, bytes]:
        parts = self._fitting(unpack(data))
        total, done = sum(len(part.data) for part in parts), 0
        for part in parts:
            wrong = list(self._changed(part))
            if wrong:
                raise RefusedError(
                    messages.MISMATCH, f"the flash does not hold what was written, from {wrong[0].offset:#x} on"
                )
            done += len(part.data)
            self._progress("verify", done, total)
        return {}, b""

    def _reset(self, call: Message, data: bytes) -> Tuple[Message, bytes]:
        if call["mode"] == "lines":
            cmds.reset_chip(self._esp, "hard-reset")
            return {}, b""
        if self._esp.IS_STUB:
            # A stub can't start the application, but give way to the ROM loader, which can.
            cmds.reset_chip(self._esp, "no-reset")
            port = self._esp._port
            port.baudrate = self._esp.ESP_ROM_BAUD
            self._esp = cmds.detect_chip(port, connect_mode="no-reset", connect_attempts=ATTEMPTS)
        cmds.attach_flash(self._esp)
        cmds.reset_chip(self._esp, "soft-reset")
        return {}, b""

    # Flash

    def _changed(self, part: Part) -> Iterable[Part]:
        """Yield the blocks of a part that the flash does not hold. One digest is enough for a part that it does."""
        if self._holds(part):
            return
        for offset in range(0, len(part.data), BLOCK):
            block = Part(part.offset + offset, part.data[offset : offset + BLOCK])
            if not self._holds(block):
                yield block

    def _holds(self, part: Part) -> bool:
        digest = hashlib.md5(part.data).hexdigest()
        return bool(self._esp.flash_md5sum(part.offset, len(part.data)) == digest)

    def _fitting(self, parts: List[Part]) -> List[Part]:
        """Raise ``RefusedError`` for what would not fit this chip's flash, or must not be written to it."""
        size = self._flash_bytes()
        for part in parts:
            if part.end > size:
                raise RefusedError(
                    messages.TOOL,
                    f"the part at {part.offset:#x} ends at {part.end:#x}, but the flash has {size:#x} bytes; build the "
                    "firmware for this flash",
                )
            if part.offset % SECTOR:
                raise RefusedError(messages.TOOL, f"the part at {part.offset:#x} begins inside a sector of {SECTOR}")
            if self._secure_boot and (objection := secure_boot.objection(part, self._secure_boot, self._holds)):
                raise RefusedError(messages.PROTECTED, objection)
        return parts

    def _flash_bytes(self) -> int:
        return int(flash_size_bytes(cmds.detect_flash_size(self._esp)))

    def _progress(self, phase: str, done: int, total: int) -> None:
        self._send({"type": "progress", "phase": phase, "done": done, "total": total})

    def _fail(self, kind: str, text: str) -> None:
        self._send({"type": "result", "ok": False, "kind": kind, "error": text})


def _joined(blocks: Iterable[Part]) -> Iterable[Part]:
    """Yield neighbouring blocks as one."""
    current = None
    for block in blocks:
        if current is not None and current.end == block.offset:
            current = Part(current.offset, current.data + block.data)
            continue
        if current is not None:
            yield current
        current = block
    if current is not None:
        yield current


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def streams() -> Tuple[BinaryIO, BinaryIO]:
    """Return standard input and output; whatever else is printed goes to standard error."""
    stdin, stdout = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return stdin, stdout


def main() -> int:
    """Serve calls from standard input until it ends."""
    parser = argparse.ArgumentParser(prog="esptool_worker", description=__doc__)
    parser.add_argument("port", help="device or pyserial URL")
    arguments = parser.parse_args()
    stdin, stdout = streams()

    def send(message: Message) -> None:
        stdout.write(wire.encode_json(message))

    def receive() -> Message:
        frame = wire.read_frame(stdin)
        if frame is None:
            raise EOFError
        return wire.decode_json(frame[1])

    worker = Worker(lambda: arguments.port, send, receive)
    try:
        while True:
            worker.serve(receive())
    except (EOFError, BrokenPipeError):
        return 0
    finally:
        worker.close()


if __name__ == "__main__":
    sys.exit(main())
