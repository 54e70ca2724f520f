"""Proof that each guard is load-bearing: break it on purpose, and a named test must notice.

``make mutants`` copies the tree, applies one mutation at a time and runs the named tests against the copy.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Mutant:
    """A guard, the text that makes it, what breaks it, and the tests that must fail then."""

    guard: str
    file: str
    text: str
    broken: str
    tests: str


MUTANTS = [
    Mutant(
        "print state in the plan",
        "fleetflash/plan.py",
        'if service.print_state == "printing":\n        return Printer.PRINTING',
        'if service.print_state == "printing":\n        return Printer.IDLE',
        "tests/unit/test_plan.py",
    ),
    Mutant(
        "unknown means no",
        "fleetflash/plan.py",
        'if service.klippy != "ready":\n        return Printer.UNKNOWN',
        'if service.klippy != "ready":\n        return Printer.IDLE',
        "tests/unit/test_plan.py",
    ),
    Mutant(
        "way back",
        "fleetflash/plan.py",
        "if way_back is None and not reads and not board.accept_no_way_back:",
        "if False:",
        "tests/unit/test_plan.py",
    ),
    Mutant(
        "dropped lines of a configuration",
        "fleetflash/build/configuration.py",
        "    if lost:\n",
        "    if False:\n",
        "tests/unit/test_build_builder.py -k dropped",
    ),
    Mutant(
        "version of a build",
        "fleetflash/build/output.py",
        "if image.dictionary.version != version:",
        "if False:",
        "tests/unit/test_build_builder.py -k not_what_was_asked",
    ),
    Mutant(
        "place of a build in flash",
        "fleetflash/build/output.py",
        "if board_type.flash_offset not in linked:",
        "if False:",
        "tests/unit/test_build_builder.py -k place_in_flash",
    ),
    Mutant(
        "room for the bootloader",
        "fleetflash/build/output.py",
        "if len(image.data) > target.room(board_type.flash_offset):",
        "if False:",
        "tests/unit/test_build_builder.py -k room_for_the_bootloader",
    ),
    Mutant(
        "one build for each key",
        "fleetflash/build/builder.py",
        "            if build is not None:\n                return build, False\n",
        "",
        "tests/unit/test_build_builder.py -k threads_at_once",
    ),
    Mutant(
        "a build is what was stored",
        "fleetflash/build/builds.py",
        "return build if sound and",
        "return build if",
        "tests/unit/test_build_builder.py -k damaged",
    ),
    Mutant(
        "a file of the source is not replaced",
        "fleetflash/build/overlay.py",
        "if os.path.lexists(target):",
        "if False:",
        "tests/unit/test_build_source.py -k never_replaces",
    ),
    Mutant(
        "patch that does not apply",
        "fleetflash/build/overlay.py",
        "            except SourceError:\n                raise OverlayError(",
        "            except SourceError:\n                return False\n                raise OverlayError(",
        "tests/unit/test_build_source.py -k no_longer_applies",
    ),
    Mutant(
        "sha256 of a toolchain",
        "fleetflash/build/download.py",
        "if found == sha256:",
        "if True:",
        "tests/unit/test_build_toolchains.py -k wrong_hash",
    ),
    Mutant(
        "archive that escapes",
        "fleetflash/build/archive.py",
        "or not _is_inside(path.parent, root):\n",
        "or False:\n",
        "tests/unit/test_build_archive.py",
    ),
    Mutant(
        "link of an archive that escapes",
        "fleetflash/build/archive.py",
        "            if path.is_symlink() and not _is_inside(path, root):",
        "            if False:",
        "tests/unit/test_build_archive.py",
    ),
    Mutant(
        "a toolchain in use stays",
        "fleetflash/build/toolchain_cache.py",
        "                    if free:\n                        self._remove(entry.sha256)",
        "                    if True:\n                        self._remove(entry.sha256)",
        "tests/unit/test_build_toolchains.py -k collect",
    ),
    Mutant(
        "ambiguous port",
        "fleetflash/plan.py",
        "if len(facts.candidates) > 1:",
        "if False:",
        "tests/unit/test_plan.py",
    ),
    Mutant(
        "chip against the running firmware",
        "fleetflash/plan.py",
        "if mcu and not mcu_fits(str(mcu), target):",
        "if False:",
        "tests/unit/test_plan.py",
    ),
    Mutant(
        "klippy's own port",
        "fleetflash/plan.py",
        "if facts.klippy_device and facts.klippy_device != facts.device:",
        "if False:",
        "tests/unit/test_plan.py",
    ),
    Mutant(
        "ledger's image hash",
        "fleetflash/plan.py",
        'return runs(facts.firmware, wanted.klipper) and written in ("", wanted.image_sha256)',
        "return runs(facts.firmware, wanted.klipper)",
        "tests/unit/test_plan.py",
    ),
    Mutant(
        "attention latch",
        "fleetflash/plan.py",
        "if attention := observed.needs_attention.get(board.name):",
        'if attention := "":',
        "tests/unit/test_plan.py",
    ),
    Mutant(
        "canary threshold in whole numbers",
        "fleetflash/rollout/canary.py",
        "if 100 * len(failed) > max_failed_percent * len(results):",
        "if 100 * len(failed) >= max_failed_percent * len(results):",
        "tests/unit/test_canary.py",
    ),
    Mutant(
        "flash encryption of an ESP chip",
        "fleetflash/agent/protocols/esptool_programmer.py",
        "        if self._problem:\n",
        "        if False:\n",
        "tests/protocols/test_esptool_programmer.py -k burnt",
    ),
    Mutant(
        "parts of an ESP image within its flash",
        "fleetflash/agent/tools/esptool_worker.py",
        "if part.end > size:",
        "if False:",
        "tests/protocols/test_esptool_programmer.py -k fit",
    ),
    Mutant(
        "what an ESP chip boots",
        "fleetflash/agent/board.py",
        "if found.version and found.version != image.version:",
        "if False:",
        "tests/unit/test_board.py",
    ),
    Mutant(
        "tools that others than root may change",
        "fleetflash/agent/tools/environment.py",
        "if facts.st_uid != 0 or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):",
        "if False:",
        "tests/unit/test_tool_environment.py",
    ),
    Mutant(
        "tool that is nowhere",
        "fleetflash/plan.py",
        'return "controller", identity.esptool',
        'return "controller", ""',
        "tests/unit/test_plan.py",
    ),
    Mutant(
        "chip in the bootloader",
        "fleetflash/agent/board.py",
        "if found.chip_id not in self.board.chip_ids:",
        "if False:",
        "tests/protocols/test_wch_isp_board.py",
    ),
    Mutant(
        "unique id in the bootloader",
        "fleetflash/agent/board.py",
        "if self.expected_uid and found.uid and found.uid != self.expected_uid:",
        "if False:",
        "tests/protocols/test_wch_isp_board.py",
    ),
    Mutant(
        "first data byte of every answer",
        "fleetflash/agent/protocols/wch_isp.py",
        "if answer[0] == 0:\n            return",
        "if answer:\n            return",
        "tests/protocols/test_wch_isp.py",
    ),
    Mutant(
        "version that really runs",
        "fleetflash/agent/board.py",
        "if found.version != image.version:",
        "if False:",
        "tests/unit/test_transaction.py",
    ),
    Mutant(
        "print state before the stop",
        "fleetflash/agent/preconditions.py",
        "    if status.prints:\n        raise",
        "    if False:\n        raise",
        "tests/unit/test_transaction.py",
    ),
    Mutant(
        "stale plan",
        "fleetflash/agent/preconditions.py",
        "if found and found.version and board.expected.version and found.version != board.expected.version:",
        "if False:",
        "tests/unit/test_transaction.py",
    ),
    Mutant(
        "lock: one transaction a host",
        "fleetflash/agent/run.py",
        "    if not guard.is_idle():\n        newest",
        "    if False:\n        newest",
        "tests/unit/test_run_conversation.py",
    ),
    Mutant(
        "lock: the unit's fixed name",
        "fleetflash/agent/systemd.py",
        'f"--unit={unit}", ',
        "",
        "tests/unit/test_systemd.py",
    ),
    Mutant(
        "lock of the port against those who ask",
        "fleetflash/agent/ports.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "tests/unit/test_ports.py",
    ),
    Mutant(
        "lock of the port against those who don't",
        "fleetflash/agent/ports.py",
        "termios.TIOCEXCL",
        "termios.TIOCNXCL",
        "tests/unit/test_ports.py",
    ),
    Mutant(
        "hash of what was uploaded",
        "fleetflash/agent/run.py",
        "if found != sha256:",
        "if False:",
        "tests/unit/test_run_conversation.py",
    ),
    Mutant(
        "disk space kept aside for the record",
        "fleetflash/agent/reserve.py",
        "if error.errno != errno.ENOSPC or not self.path.exists():",
        "if True:",
        "tests/unit/test_reserve.py",
    ),
    Mutant(
        "hash of the way back",
        "fleetflash/agent/store.py",
        "if found != sha256:",
        "if False:",
        "tests/unit/test_transaction.py",
    ),
    Mutant(
        "print that runs when a death is settled",
        "fleetflash/agent/transaction.py",
        "if status is not None and status.prints:",
        "if False:",
        "tests/unit/test_transaction_deaths.py",
    ),
    Mutant(
        "minus sign on ExecStopPost",
        "fleetflash/agent/guard.py",
        'f"ExecStopPost=-{settle}"',
        'f"ExecStopPost={settle}"',
        "tests/unit/test_guard.py",
    ),
    Mutant(
        "busy drop-in",
        "fleetflash/agent/guard.py",
        "    drop_in.write_text(DROP_IN_TEXT.format(busy=BUSY))\n",
        "",
        "tests/unit/test_guard.py",
    ),
    Mutant(
        "settle unit for the next boot",
        "fleetflash/agent/guard.py",
        "    disk.write_file(SETTLE_UNIT, text.encode())\n",
        "",
        "tests/unit/test_guard.py",
    ),
    Mutant(
        "settle unit before Klipper",
        "fleetflash/agent/guard.py",
        "Before={before}\n",
        "",
        "tests/unit/test_guard.py",
    ),
    Mutant(
        "only a Klipper that the transaction stopped is started",
        "fleetflash/agent/guard.py",
        "test ! -e {STOPPED} || {start}",
        "{start}",
        "tests/unit/test_guard.py",
    ),
    Mutant(
        "file synced before it is renamed",
        "fleetflash/agent/disk.py",
        "            os.fsync(file.fileno())\n",
        "",
        "tests/unit/test_store.py",
    ),
    Mutant(
        "directory synced after a rename",
        "fleetflash/agent/disk.py",
        "        raise\n    sync_directory(path.parent)\n",
        "        raise\n",
        "tests/unit/test_store.py",
    ),
    Mutant(
        "journal line synced",
        "fleetflash/agent/store.py",
        "            os.fsync(descriptor)\n",
        "",
        "tests/unit/test_store.py",
    ),
    Mutant(
        "images named by boards are kept",
        "fleetflash/agent/store.py",
        '*self.root.glob("boards/*.json")',
        "*[]",
        "tests/unit/test_store.py",
    ),
    Mutant(
        "unfinished restore in the journal",
        "fleetflash/agent/history.py",
        'elif entry["step"] == "restored":\n            touched',
        'elif entry["step"] == "restoring":\n            touched',
        "tests/unit/test_history.py",
    ),
    Mutant(
        "boards that resisted come after their neighbours",
        "fleetflash/agent/way_back.py",
        "key=lambda name: (name in resisted, name)",
        "key=lambda name: name",
        "tests/unit/test_transaction_deaths.py",
    ),
    Mutant(
        "board that is back is no longer latched",
        "fleetflash/agent/record.py",
        "        self.store.clear_attention(board.name)\n",
        "",
        "tests/unit/test_transaction_deaths.py",
    ),
    Mutant(
        "no seconds between two boots",
        "fleetflash/agent/moment.py",
        "if boot and boot == former:",
        "if boot and former:",
        "tests/unit/test_history.py",
    ),
    Mutant(
        "image for another place in the flash",
        "fleetflash/plan.py",
        "if offset != board.flash_offset:",
        "if False:",
        "tests/unit/test_plan.py",
    ),
    Mutant(
        "where Katapult starts applications",
        "fleetflash/agent/protocols/katapult_programmer.py",
        "if found.application_start != self.target.start:",
        "if False:",
        "tests/protocols/test_katapult_programmer.py",
    ),
    Mutant(
        "acknowledgement of the very block",
        "fleetflash/agent/protocols/katapult.py",
        "if code == ACK and answer.startswith(expected):",
        "if code == ACK:",
        "tests/protocols/test_katapult.py",
    ),
    Mutant(
        "Katapult's flash read back",
        "fleetflash/agent/protocols/katapult_programmer.py",
        "        if at is not None:\n",
        "        if False:\n",
        "tests/protocols/test_katapult_programmer.py",
    ),
    Mutant(
        "refusal at the code is a protection",
        "fleetflash/agent/protocols/stm32_rom.py",
        "            raise ProtectedError(\n",
        "            raise RefusedError(\n",
        "tests/protocols/test_stm32_rom.py",
    ),
    Mutant(
        "sectors that hold something else",
        "fleetflash/agent/protocols/stm32_rom_programmer.py",
        "if not device.is_boundary(offset) or offset + len(data) > device.writable:",
        "if False:",
        "tests/protocols/test_stm32_rom_programmer.py",
    ),
    Mutant(
        "bootloader of an AVR",
        "fleetflash/agent/protocols/stk500_programmer.py",
        "if len(data) > min(self.target.size, bootloader.reach):",
        "if False:",
        "tests/protocols/test_stk500_programmer.py",
    ),
    Mutant(
        "reset before a second image",
        "fleetflash/agent/protocols/stk500_programmer.py",
        "        if self._has_programmed:\n",
        "        if False:\n",
        "tests/protocols/test_stk500_programmer.py",
    ),
    Mutant(
        "late answers of an AVR bootloader",
        "fleetflash/agent/protocols/stk500_programmer.py",
        "                    if attempt:\n",
        "                    if False:\n",
        "tests/protocols/test_stk500_programmer.py",
    ),
    Mutant(
        "page that is shorter than asked",
        "fleetflash/agent/protocols/stk500v1.py",
        "if len(answer) < size + 2:",
        "if False:",
        "tests/protocols/test_stk500.py",
    ),
    Mutant(
        "backup of another board",
        "fleetflash/agent/backups.py",
        "if (backup.chip, backup.flash_offset, backup.uid) == (board.chip, board.flash_offset, uid):",
        "if True:",
        "tests/unit/test_transaction.py",
    ),
    Mutant(
        "second reading of a backup",
        "fleetflash/agent/board.py",
        '        self.programmer.verify(data, progress("check backup"))\n',
        "",
        "tests/unit/test_transaction.py",
    ),
    Mutant(
        "torn flash is no backup",
        "fleetflash/agent/transaction.py",
        "if ledger is not None and ledger.image_sha256 == UNFINISHED:",
        "if False:",
        "tests/unit/test_transaction.py",
    ),
    Mutant(
        "images named by backups are kept",
        "fleetflash/agent/store.py",
        '*self.root.glob("backups/*.json")',
        "*[]",
        "tests/unit/test_backups.py",
    ),
    Mutant(
        "unique id of a board on USB, in the plan",
        "fleetflash/plan.py",
        "if expected and facts.uid and facts.uid != expected",
        "if False",
        "tests/unit/test_plan_identity.py",
    ),
    Mutant(
        "place of a board without unique id",
        "fleetflash/plan.py",
        'if expected or not met or not places or met in places or "/by-path/" in board.port:',
        "if True:",
        "tests/unit/test_plan_identity.py",
    ),
    Mutant(
        "another board where one that waits in its bootloader was",
        "fleetflash/agent/devices.py",
        "return [device for device in at_place if device not in others]",
        "return at_place",
        "tests/unit/test_devices.py",
    ),
    Mutant(
        "end of the flash that Katapult may read",
        "fleetflash/agent/protocols/katapult_programmer.py",
        "size = min(self.target.size, self._flash_end() - self.target.offset)",
        "size = self.target.size",
        "tests/protocols/test_katapult_programmer.py",
    ),
    Mutant(
        "two nodes with one uuid",
        "fleetflash/agent/protocols/can_node.py",
        "if sum(node.uuid == self.uuid for node in found) > 1:",
        "if False:",
        "tests/protocols/test_katapult_can.py",
    ),
    Mutant(
        "uuid said over the channel",
        "fleetflash/agent/protocols/katapult_can_programmer.py",
        "if uuid != self.node.uuid:",
        "if False:",
        "tests/protocols/test_katapult_can.py",
    ),
    Mutant(
        "program for another machine",
        "fleetflash/agent/protocols/linux_process.py",
        "if not image.startswith(ELF_MAGIC) or _machine(image) != _machine(own):",
        "if False:",
        "tests/unit/test_linux_process.py",
    ),
    Mutant(
        "service that an agent's death left stopped",
        "fleetflash/agent/protocols/linux_process.py",
        "                self._mark.touch()\n",
        "",
        "tests/unit/test_linux_process.py",
    ),
    Mutant(
        "version of a tool",
        "fleetflash/agent/protocols/external_tool.py",
        "if not self.spec.oldest <= numbers < self.spec.newest:",
        "if False:",
        "tests/unit/test_external_tools.py",
    ),
    Mutant(
        "what a tool has started",
        "fleetflash/agent/protocols/external_tool.py",
        "os.killpg(process.pid, signal.SIGKILL)",
        "process.kill()\n        process.stdout.close()\n        return code, ''",
        "tests/unit/test_external_tools.py",
    ),
    Mutant(
        "two WCH boards in their bootloader",
        "fleetflash/agent/protocols/wchisp.py",
        "if others > 0:",
        "if False:",
        "tests/unit/test_external_tools.py",
    ),
    Mutant(
        "uncommitted changes, in the plan",
        "fleetflash/host_code.py",
        "    if found.dirty:\n",
        "    if False:\n",
        "tests/unit/test_exact_plan.py",
    ),
    Mutant(
        "commit that nobody else has",
        "fleetflash/host_code.py",
        "if wanted.foreign:",
        "if False:",
        "tests/unit/test_exact_plan.py",
    ),
    Mutant(
        "uncommitted changes, once more before the stop",
        "fleetflash/agent/host_code.py",
        "if state.dirty:",
        "if False:",
        "tests/unit/test_host_code.py -k uncommitted",
    ),
    Mutant(
        "ignored file that the new version has, too",
        "fleetflash/agent/checkout.py",
        "        if ours:\n",
        "        if False:\n",
        "tests/unit/test_host_code.py -k ignored_file",
    ),
    Mutant(
        "commit with everything that belongs to it",
        "fleetflash/agent/checkout.py",
        "if not self.has(commit):",
        "if False:",
        "tests/unit/test_host_code.py -k not_there",
    ),
    Mutant(
        "two Klippers on one checkout",
        "fleetflash/agent/host_code.py",
        "        self._check_alone(checkout)\n",
        "",
        "tests/unit/test_host_code.py -k another_klipper",
    ),
    Mutant(
        "journal before the code moves",
        "fleetflash/agent/host_code.py",
        '        self.record.log("checkout", board=HOST_CODE, former=self.code.former, wanted=self.code.wanted)\n'
        "        checkout.move(self.code.wanted)\n",
        "        checkout.move(self.code.wanted)\n"
        '        self.record.log("checkout", board=HOST_CODE, former=self.code.former, wanted=self.code.wanted)\n',
        "tests/unit/test_host_code.py -k death",
    ),
    Mutant(
        "index and files that a power cut tore",
        "fleetflash/agent/checkout.py",
        '        self._run(["rm", "-f", "--", f"{directory}/index"])\n        self.git("read-tree", moved_to)\n',
        "",
        "tests/unit/test_host_code.py -k tore",
    ),
    Mutant(
        "locks of a git that was killed",
        "fleetflash/agent/checkout.py",
        '        self._run(["rm", "-f", "--", *locks])\n',
        "",
        "tests/unit/test_host_code.py -k tore",
    ),
    Mutant(
        "version that klippy reports of itself",
        "fleetflash/agent/host_code.py",
        "if version == self.version:",
        "if version:",
        "tests/unit/test_host_code.py -k another_version",
    ),
    Mutant(
        "helper newer than its sources",
        "fleetflash/agent/chelper.py",
        "self._newest_source() + 1",
        "self._newest_source() - 1",
        "tests/unit/test_host_code.py -k helper",
    ),
    Mutant(
        "former helper",
        "fleetflash/agent/host_code.py",
        "            helper.put(helper.kept)\n",
        "            pass\n",
        "tests/unit/test_host_code.py -k helper",
    ),
    Mutant(
        "root leaves nothing of its own",
        "fleetflash/agent/account.py",
        "if os.geteuid() == self.entry.pw_uid:",
        "if True:",
        "tests/unit/test_host_code.py -k roots",
    ),
    Mutant(
        "changes in a checkout",
        "fleetflash/agent/source_tree.py",
        "    if tree.changes:\n        named",
        "    if False:\n        named",
        "tests/unit/test_source_tree.py -k changed_files",
    ),
    Mutant(
        "commits of nobody else's",
        "fleetflash/agent/source_tree.py",
        "    if tree.is_local:\n        raise",
        "    if False:\n        raise",
        "tests/unit/test_source_tree.py -k nowhere_else",
    ),
    Mutant(
        "a checkout is made beside its place",
        "fleetflash/agent/source_tree.py",
        "    shutil.rmtree(str(draft), ignore_errors=True)\n",
        "",
        "tests/unit/test_source_tree.py -k interrupted",
    ),
    Mutant(
        "files of a virtualenv",
        "fleetflash/agent/virtualenv.py",
        "    except OSError:\n        return False\n    return not size or found == int(size)",
        "    except OSError:\n        return True\n    return not size or found == int(size)",
        "tests/unit/test_virtualenv.py -k complete",
    ),
    Mutant(
        "a printer that prints keeps what it runs",
        "fleetflash/facts/installation.py",
        "if state in (Printer.PRINTING, Printer.PAUSED):",
        "if False:",
        "tests/unit/test_installation.py -k disturbed",
    ),
    Mutant(
        "what was seen before a change is not believed after it",
        "fleetflash/facts/installation.py",
        "    if address(host) in _changed or not",
        "    if not",
        "tests/unit/test_expected.py -k changed",
    ),
    Mutant(
        "a service that must be restarted is not confirmed",
        "fleetflash/agent/expected.py",
        "return is_up and not pending_restart.marked(unit)",
        "return is_up",
        "tests/unit/test_expected.py -k service",
    ),
    Mutant(
        "a damaged compiled agent is not imported",
        "fleetflash/link/bootstrap.py",
        "if t and t[:64]==hashlib.sha256(t[64:]).hexdigest().encode() else [];",
        "if t else [];",
        "tests/unit/test_session.py -k compiled",
    ),
    Mutant(
        "printer.cfg is the user's",
        "fleetflash/operations/printer.py",
        "[ -e {shlex.quote(path)} ] || ",
        "",
        "tests/unit/test_installation.py -k replaced",
    ),
]


def survives(mutant: Mutant, tree: Path) -> bool:
    """Apply a mutant to ``tree``, run its tests, and put the file back."""
    path = tree / mutant.file
    original = path.read_text()
    if original.count(mutant.text) != 1:
        raise SystemExit(f"{mutant.guard}: {mutant.file} does not hold its text once; mend the spec")
    path.write_text(original.replace(mutant.text, mutant.broken))
    try:
        return passes(mutant.tests, tree)
    finally:
        path.write_text(original)


def passes(tests: str, tree: Path) -> bool:
    """Run tests against the copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
    # Before what is installed, so that the copy is what is tested.
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True).returncode == 0


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tree"
        ignored = shutil.ignore_patterns(".git", ".venv", "artifacts", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, tree, ignore=ignored)
        for tests in sorted({mutant.tests for mutant in MUTANTS}):
            if not passes(tests, tree):
                raise SystemExit(f"{tests} fails without any mutation: nothing can be learned from it")
        survived = []
        for mutant in MUTANTS:
            alive = survives(mutant, tree)
            print(f"{'SURVIVED' if alive else 'killed  '}  {mutant.guard}", flush=True)
            if alive:
                survived.append(mutant.guard)
    print(f"{len(MUTANTS)} mutants, survived = {len(survived)}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
