"""The command that starts the agent on a host: one line for any login shell, nothing left on the host's disk.

It prints ``wire.MARKER`` and a word on a line of their own: ``have`` when the host keeps this very archive in
``AGENT_DIRECTORY``, ``need`` when it wants eight bytes of length and the archive on its standard input, or
``old <version>`` when its Python can't run the agent. Then the agent runs from memory, and frames follow.

Beside an archive that the host keeps may lie the same, compiled (``fleetflash.agent.compiled``): what is imported comes
from there. Root alone can write there, and has checked the archive's SHA-256; what is left to find is damage, for which
a CRC-32 does. This command runs for every look at a printer, so it imports next to nothing.
"""

import re

from fleetflash.agent.wire import MARKER
from fleetflash.link.agent_archive import Archive

AGENT_DIRECTORY = "/var/lib/fleetflash/agent"
OLDEST_PYTHON = (3, 9)

# Every shell passes this unchanged between single quotes: it holds no single quote, backslash, newline, dollar
# or exclamation mark. It must be valid for every Python 3, so that an old one can tell its version.
# Buffers of one byte never take in more than was asked for: what follows the archive is the agent's.
_PROGRAM = (
    "import gc,io,os,sys,zipimport,zlib;"
    # What is imported stays: looking for garbage in between costs a tenth of the start.
    "gc.disable();"
    'h="@HASH@";p="@DIRECTORY@/"+h+".pyz";'
    "v=sys.version_info[:2]>=@OLDEST@;"
    'd=open(p,"rb").read() if v and os.path.isfile(p) and os.access(p,os.R_OK) else b"";'
    "k=zlib.crc32(d)==@CRC@ and len(d)==@SIZE@;"
    'print();print("@MARKER@","have" if k else "need" if v else "old "+sys.version.split()[0]);'
    "sys.stdout.flush();"
    "v or sys.exit(1);"
    'i=io.BufferedReader(io.FileIO(0,"rb",False),1);'
    'c=p[:-3]+sys.implementation.cache_tag+".zip" if k else "";'
    't=open(c,"rb").read() if os.path.isfile(c) and os.access(c,os.R_OK) else b"";'
    'z=[c] if t and t[:8]==b"%08x"%zlib.crc32(t[8:]) else [];'
    'd=d if k else i.read(int.from_bytes(i.read(8),"big"));'
    'zlib.crc32(d)==@CRC@ or sys.exit("the agent arrived incomplete: "+str(len(d))+" bytes");'
    'f=os.memfd_create("fleetflash-agent");'
    'm=os.fdopen(f,"wb",closefd=False);m.write(d);m.flush();'
    'ARCHIVE="/proc/self/fd/"+str(f);'
    "z+=[ARCHIVE];"
    # Python's own modules are the most, and need not be looked for there.
    "sys.path+=z;"
    'exec(zipimport.zipimporter(z[0]).get_code("__main__"))'
)
_FORBIDDEN = re.compile(r"['\\\n$!`]")
_ARGUMENT = re.compile(r"[A-Za-z0-9_./:@=,+-]+")


def command(archive: Archive, arguments: list[str], *, sudo: bool = False) -> str:
    """Return the remote command line that runs the agent with ``arguments``."""
    program = (
        _PROGRAM.replace("@HASH@", archive.sha256)
        .replace("@CRC@", str(archive.crc32))
        .replace("@SIZE@", str(len(archive.data)))
        .replace("@DIRECTORY@", AGENT_DIRECTORY)
        .replace("@OLDEST@", repr(OLDEST_PYTHON).replace(" ", ""))
        .replace("@MARKER@", MARKER.decode())
    )
    if _FORBIDDEN.search(program):
        raise ValueError(f"not safe in every shell: {program}")
    for argument in arguments:
        if not _ARGUMENT.fullmatch(argument):
            raise ValueError(f"agent argument {argument!r} needs quoting; send it as a message instead")
    # Isolated: a file named like a module in the home directory must not be run, least of all by root. What is in
    # site-packages is not needed.
    words = ["python3", "-ISBc", f"'{program}'", *arguments]
    return " ".join(["sudo", "-n", *words] if sudo else words)


def upload(data: bytes) -> bytes:
    """Return what answers ``need``."""
    return len(data).to_bytes(8, "big") + data
