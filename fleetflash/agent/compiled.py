"""The agent's archive, compiled by the host's own Python: what runs from memory would be compiled anew at every start.

It begins with the CRC-32 (eight hexadecimal digits) of what follows, so that a damaged one is known; readers of zip
archives pass over what lies before them (PKWARE's APPNOTE, section 4.1.9). Only imports of a session that the
controller starts are served from it (``fleetflash.link.bootstrap``): a transaction runs from the archive itself.
"""

import importlib.util
import io
import marshal
import zipfile
import zlib

#: PEP 552: a hash-based file (bit 0) that is not checked against its source (bit 1), and a hash that nobody reads.
_HEADER = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
#: The earliest moment that a zip archive can express.
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


def compiled(archive: bytes) -> bytes:
    """Return the modules of a zip archive of sources as a zip archive of bytecode."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as sources, zipfile.ZipFile(packed, "w") as modules:
        for name in sources.namelist():
            code = compile(sources.read(name), name, "exec", dont_inherit=True)
            modules.writestr(zipfile.ZipInfo(f"{name}c", _TIMESTAMP), _HEADER + marshal.dumps(code))
    data = packed.getvalue()
    return b"%08x" % zlib.crc32(data) + data
