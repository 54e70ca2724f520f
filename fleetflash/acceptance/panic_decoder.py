"""Addresses of a panic as functions and source lines, from the firmware's ELF file.

Where the toolchain's ``addr2line`` is installed, Espressif's esp-idf-panic-decoder asks it. Otherwise the ELF's symbols
tell the function, and how far into it the address is.

Sources: ESP-IDF guide, "Fatal Errors" ("Register Dump and Backtrace": ``PC:SP`` pairs on Xtensa, registers ``MEPC`` and
``RA`` on RISC-V); esp-idf-panic-decoder, ``PcAddressDecoder``; ELF specification, "Symbol Table".
"""

import bisect
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from esp_idf_panic_decoder import PcAddressDecoder

from fleetflash.acceptance.errors import PanicError
from fleetflash.agent.acceptance.panic import Panic

_BACKTRACE = re.compile(r"Backtrace:((?: ?0x[0-9a-fA-F]{8}:0x[0-9a-fA-F]{8})+)")
_PROGRAM_COUNTER = re.compile(r"\b(?:PC|MEPC|EXC_PC|RA|at PC)\s*:?\s*(0x[0-9a-fA-F]{8})")
_XTENSA = ("xtensa-esp-elf-", "xtensa-esp32-elf-", "xtensa-esp32s2-elf-", "xtensa-esp32s3-elf-")
_RISCV = ("riscv32-esp-elf-",)


def addresses(panic: Panic) -> list[int]:
    """Return the code addresses that a panic names, the failing one first, each once.

    Xtensa's windowed calls leave the call's size in the two highest bits of a return address, which is in the second
    GiB all the same; such addresses are brought back there.
    """
    found: list[int] = []
    for line in panic.lines:
        traced = _BACKTRACE.search(line)
        if traced:
            found += [int(pair.partition(":")[0], 16) for pair in traced[1].split()]
        else:
            found += [int(match[1], 16) for match in _PROGRAM_COUNTER.finditer(line)]
    return list(dict.fromkeys(_code(address) for address in found))


def _code(address: int) -> int:
    return address & 0x3FFF_FFFF | 0x4000_0000 if address >= 0x8000_0000 else address


class Symbols:
    """The functions of an ELF file; raises ``PanicError`` for a file that is none."""

    def __init__(self, elf: Path):
        self._elf = elf
        try:
            with elf.open("rb") as file:
                parsed = ELFFile(file)
                self.machine = str(parsed.header["e_machine"])
                self._functions = sorted(set(_functions(parsed)))
        except OSError as error:
            raise PanicError(f"{elf}: {error.strerror}") from None
        # On a damaged file the parser raises whatever its parts raise (struct, construct, Unicode, assertions).
        except Exception as error:
            raise PanicError(f"{elf}: this is no ELF file ({type(error).__name__}); give that of the build") from None

    def function(self, address: int) -> str:
        """Return ``function+0x1c`` for an address; empty where there is none."""
        place = bisect.bisect_right(self._functions, (address, 1 << 40, "\uffff")) - 1
        if place < 0:
            return ""
        start, size, name = self._functions[place]
        return f"{name}+{address - start:#x}" if address < start + size else ""

    def decode(self, panic: Panic) -> list[str]:
        """Return one line for each address of a panic: the address, and what is known of it."""
        found = [f"{address:#010x}" for address in addresses(panic)]
        told = self._ask_tool(found)
        return [f"{at}: {told.get(at) or self.function(int(at, 16)) or 'not in this ELF file'}" for at in found]

    def _ask_tool(self, found: list[str]) -> dict[str, str]:
        """Return what the toolchain says of addresses; inlined functions have those around them behind them."""
        tool = self._tool()
        if tool is None:
            return {}
        told = {}
        for at, places in PcAddressDecoder(tool, str(self._elf)).translate_addresses(" ".join(found)):
            told[at] = ", inlined by ".join(f"{place.func} at {place.path}:{place.line}" for place in places)
        return told

    def _tool(self) -> str | None:
        """Return the prefix of an ``addr2line`` for this machine, if one is installed."""
        prefixes = {"EM_XTENSA": _XTENSA, "EM_RISCV": _RISCV}.get(self.machine, ("",))
        return next((prefix for prefix in prefixes if shutil.which(f"{prefix}addr2line")), None)


def _functions(elf: ELFFile) -> Iterable[tuple[int, int, str]]:
    for section in elf.iter_sections():
        if isinstance(section, SymbolTableSection):
            for symbol in section.iter_symbols():
                if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_size"]:
                    yield int(symbol["st_value"]), int(symbol["st_size"]), str(symbol.name)
