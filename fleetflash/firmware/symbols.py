"""ELF files and maps of applications, to decode their panics: found by what a panic's log says of its ELF file.

``<directory>/<sha256 of the ELF file>/`` holds ``app.elf`` and ``app.map``, and they whatever secrets were compiled in:
the directory is its owner's alone.

Source: ESP-IDF guide, "Fatal Errors" (a panic ends with ``ELF file SHA256:`` and the first digits).
"""

import hashlib
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fleetflash.firmware.durable import sync_directory, write_read_only
from fleetflash.firmware.errors import SymbolsMissingError
from fleetflash.firmware.location import SYMBOLS
from fleetflash.firmware.store import Store

ELF, MAP = "app.elf", "app.map"
_PREFIX = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Symbols:
    elf: Path
    map: Path


class SymbolFiles:
    """Symbols below a directory, which need not exist."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def of(cls, store: Store) -> "SymbolFiles":
        """Return those that lie in an artifact store."""
        return cls(store.directory / SYMBOLS)

    def publish(self, elf: bytes, map: bytes) -> Symbols:
        """Keep the symbols of an application, unless they are there; raises ``OSError``."""
        final = self.directory / hashlib.sha256(elf).hexdigest()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not final.is_dir():
            temporary = Path(tempfile.mkdtemp(prefix=".adding-", dir=self.directory))
            try:
                write_read_only(temporary / ELF, elf)
                write_read_only(temporary / MAP, map)
                sync_directory(temporary)
                temporary.rename(final)
            except FileExistsError:
                # Another builder was faster, with the same content.
                pass
            except OSError:
                if not final.is_dir():
                    raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            sync_directory(self.directory)
        return Symbols(final / ELF, final / MAP)

    def find(self, sha256: str) -> Symbols:
        """Return the symbols of an ELF file by its sha256 or the first 8 digits at least.

        Raises ``SymbolsMissingError`` when there are none, several, or what is there is damaged.
        """
        prefix = sha256.strip().lower()
        if not _PREFIX.fullmatch(prefix):
            raise SymbolsMissingError(f"{sha256!r} is no sha256 of an ELF file; give at least 8 hexadecimal digits")
        found = sorted(self.directory.glob(f"{prefix}*"))
        if len(found) != 1:
            problem = f"{len(found)} ELF files begin with" if found else "no ELF file is"
            raise SymbolsMissingError(f"{problem} {prefix} in {self.directory}; build that firmware here")
        symbols = Symbols(found[0] / ELF, found[0] / MAP)
        try:
            sound = hashlib.sha256(symbols.elf.read_bytes()).hexdigest() == found[0].name
        except OSError as error:
            raise SymbolsMissingError(f"{symbols.elf}: {error.strerror}; remove {found[0]} and build again") from None
        if not sound:
            raise SymbolsMissingError(f"{symbols.elf} is damaged; remove {found[0]} and build again")
        return symbols
