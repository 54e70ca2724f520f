"""ELF files: the bytes that a linker meant for flash."""

import io

from fleetflash.firmware.errors import ImageError, TruncatedImageError
from fleetflash.firmware.memory import Memory


def read_elf(data: bytes) -> Memory:
    """Return what ``objcopy -O binary`` would: allocated sections at their load address, gaps zero.

    Sections, not segments, because a first segment may begin with the ELF headers themselves; a file without
    section headers is read by its segments. Raises ``ImageError``.
    """
    from elftools.elf.constants import SH_FLAGS  # not for every run: most register no firmware
    from elftools.elf.elffile import ELFFile

    try:
        file = ELFFile(io.BytesIO(data))
        kind = file.header["e_type"]
        segments = [s.header for s in file.iter_segments() if s.header["p_type"] == "PT_LOAD" and s.header["p_filesz"]]
        sections = [
            s.header
            for s in file.iter_sections()
            if s.header["sh_flags"] & SH_FLAGS.SHF_ALLOC and s.header["sh_type"] != "SHT_NOBITS" and s.header["sh_size"]
        ]
    # On a damaged file the parser raises whatever its parts raise (struct, construct, Unicode, assertions).
    except Exception as error:
        raise ImageError(f"this ELF file is damaged ({type(error).__name__}); fetch or build it again") from None
    if kind not in ("ET_EXEC", "ET_DYN"):
        raise ImageError(f"this ELF file is not a linked program ({kind}); give out/klipper.elf")
    if sections:
        blocks = [(_load_address(s, segments), s["sh_offset"], s["sh_size"]) for s in sections]
    else:
        blocks = [(s["p_paddr"], s["p_offset"], s["p_filesz"]) for s in segments]
    end = max((offset + size for _, offset, size in blocks), default=0)
    if end > len(data):
        raise TruncatedImageError(
            f"this ELF file has {len(data)} bytes, expected at least {end}; fetch or build it again"
        )
    return Memory.join([(address, data[offset : offset + size]) for address, offset, size in blocks], fill=0x00)


def _load_address(section: dict[str, int], segments: list[dict[str, int]]) -> int:
    """Where a section lies in flash: initialised data runs in RAM but is loaded from flash."""
    for segment in segments:
        into = section["sh_offset"] - segment["p_offset"]
        if into >= 0 and into + section["sh_size"] <= segment["p_filesz"]:
            return segment["p_paddr"] + into
    return section["sh_addr"]
