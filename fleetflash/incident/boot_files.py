"""What a bundle says of a gateway's boots: its monitor logs, and the verdict of each with its panics decoded."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fleetflash.acceptance.errors import AcceptanceError
from fleetflash.acceptance.log_file import LogFile
from fleetflash.acceptance.verdict_text import describe, describe_panics
from fleetflash.agent.acceptance.panic import Panic, PanicRecorder
from fleetflash.agent.acceptance.verdict import Verdict
from fleetflash.agent.protocols import esp_boot_log
from fleetflash.agent.schema import SchemaError, from_json
from fleetflash.firmware.errors import SymbolsMissingError
from fleetflash.firmware.symbols import SymbolFiles
from fleetflash.report.columns import plain


def boot_files(
    outcome: Mapping[str, Any], elf: Mapping[str, str], logs: Path, symbols: SymbolFiles
) -> Iterator[tuple[str, str]]:
    """Yield path and text of each file.

    + outcome: the agent's, with ``boots`` for every ESP board
    + elf: board → sha256 of the ELF file of what was wanted; a panic that names another one is that one's
    + logs: where the transaction's monitor logs are, if they are here
    """
    for board, result in outcome.get("boards", {}).items():
        for number, boot in enumerate(result.get("boots", ()), 1):
            name = Path(str(boot.get("log", ""))).name
            log = logs / name
            there = bool(name) and log.is_file()
            if there:
                yield f"logs/{name}", log.read_text(errors="replace")
            lines = [f"attempt {boot.get('attempt')} of {boot.get('of')}: {plain(_said(boot))}"]
            lines += _judged(boot, log if there else None, elf.get(board, ""), symbols)
            yield f"boots/{board}-{number}.txt", "\n".join(lines) + "\n"


def _said(boot: Mapping[str, Any]) -> str:
    if boot.get("reason"):
        return f"rejected: {boot['reason']}"
    verdict = boot.get("verdict") or {}
    return "nothing was wrong with it" if verdict.get("accepted", True) else "it runs, though its contract rejects it"


def _judged(boot: Mapping[str, Any], log: Path | None, elf: str, symbols: SymbolFiles) -> list[str]:
    """Return what the contract says of a boot, rule by rule, and where it panicked."""
    verdict: Verdict | None = None
    if boot.get("verdict"):
        try:
            verdict = from_json(Verdict, boot["verdict"])
        except SchemaError as error:
            return [f"its verdict can't be read: {error}"]
    panics = verdict.panics if verdict else _panics(log)
    decoded = [_decode(panic, elf, symbols) for panic in panics]
    if verdict is not None:
        return describe(verdict, str(boot.get("log", "")), decoded)
    return describe_panics(panics, decoded)


def _panics(log: Path | None) -> list[Panic]:
    """Return the panics of a boot that no contract has judged."""
    recorder = PanicRecorder()
    if log is not None:
        try:
            with log.open("rb") as file:
                for line in LogFile(file, log.name).lines():
                    recorder.hear(line)
        except (OSError, AcceptanceError):
            pass  # what can be read of it is in the bundle
    return recorder.panics


def _decode(panic: Panic, elf: str, symbols: SymbolFiles) -> list[str]:
    # The panic handler names the ELF file as a boot log does.
    digest = esp_boot_log.read("\n".join(panic.lines).encode()).elf_sha256 or elf
    if not digest:
        return ["its addresses can't be resolved: nothing tells the build's ELF file"]
    from fleetflash.acceptance.panic_decoder import Symbols  # only where something has panicked

    try:
        return Symbols(symbols.find(digest).elf).decode(panic)
    except (SymbolsMissingError, AcceptanceError) as error:
        return [f"its addresses can't be resolved: {error}"]
