"""The Klipper data dictionary: what a Klipper firmware says about itself.

Klipper's build (``scripts/buildcommands.py``) writes one JSON object with the keys ``commands``,
``responses``, ``config`` (constants such as ``MCU`` and ``CLOCK_FREQ``; integers or strings), ``version``,
``build_versions`` and, in recent versions, ``app`` and ``license``. As it is, it becomes
``out/klipper.dict``; zlib-compressed, it lies in the image and is what a board answers to ``identify``.
"""

import hashlib
import json
import re
import zlib
from dataclasses import dataclass
from typing import Any

from fleetflash.firmware.errors import AmbiguousDictionaryError, DictionaryError, NotKlipperImageError

# Ten times the largest dictionaries seen; a bound, because an image is not to be trusted with our memory.
MAX_JSON_BYTES = 1024 * 1024

_KEYS = (
    "app",
    "build_versions",
    "commands",
    "config",
    "enumerations",
    "license",
    "output",
    "responses",
    "version",
)
_OPENING = re.compile(rb'\s*\{\s*"(?:' + "|".join(_KEYS).encode() + rb')"\s*:')
_OPENING_BYTES = 64


def _zlib_header_pairs() -> bytes:
    """Return a pattern of every two-byte zlib header without a preset dictionary (RFC 1950, 2.2)."""
    pairs = (
        bytes((cmf, flg))
        for cmf in range(0x08, 0x80, 0x10)
        for flg in range(256)
        if (cmf << 8 | flg) % 31 == 0 and not flg & 0x20
    )
    return b"|".join(re.escape(pair) for pair in pairs)


_ZLIB_HEADER = re.compile(_zlib_header_pairs(), re.DOTALL)


@dataclass(frozen=True)
class KlipperDictionary:
    """The identity of a Klipper firmware.

    ``constants`` is the dictionary's ``config`` object. ``raw_sha256`` is taken over the uncompressed JSON
    bytes, so that an image, its ``klipper.dict`` and a running board's ``identify`` have the same one.
    """

    version: str
    build_versions: str
    mcu: str
    constants: dict[str, int | str]
    raw_sha256: str
    app: str = ""
    license: str = ""


def parse_dictionary(raw: bytes) -> KlipperDictionary:
    """Return the dictionary in uncompressed JSON bytes, or raise ``DictionaryError``."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DictionaryError(f"the Klipper dictionary is not valid JSON ({error}); rebuild the firmware") from None
    if not is_dictionary(document):
        raise DictionaryError(
            "this JSON is no Klipper dictionary: expected an object with commands, responses and config; "
            "give the klipper.dict that the build wrote"
        )
    constants = {
        _printable("a constant's name", key): _constant(key, value) for key, value in document["config"].items()
    }
    return KlipperDictionary(
        version=_text(document, "version", required=True),
        build_versions=_text(document, "build_versions"),
        mcu=_text(constants, "MCU", required=True),
        constants=constants,
        raw_sha256=hashlib.sha256(raw).hexdigest(),
        app=_text(document, "app"),
        license=_text(document, "license"),
    )


def decompress_dictionary(compressed: bytes) -> KlipperDictionary:
    """Return the dictionary that a board answers to ``identify`` (zlib), or raise ``DictionaryError``."""
    raw, _ = _inflate(compressed, 0)
    return parse_dictionary(raw)


def find_dictionaries(data: bytes) -> list[tuple[int, KlipperDictionary]]:
    """Return (offset, dictionary) of every dictionary in an image, lowest first.

    More than one is possible: flash that was read back may hold the end of a larger firmware that was there
    before. Raises ``DictionaryError`` when one is damaged.
    """
    found = []
    position = 0
    while match := _ZLIB_HEADER.search(data, position):
        offset = match.start()
        position = offset + 1
        if not _opens_like_a_dictionary(data, offset):
            continue
        raw, position = _inflate(data, offset)
        found.append((offset, parse_dictionary(raw)))
    return found


def find_dictionary(data: bytes) -> KlipperDictionary:
    """Return the one dictionary of an image; identical copies count once.

    Raises ``NotKlipperImageError`` without any, ``AmbiguousDictionaryError`` with two that differ, and
    ``DictionaryError`` when one is damaged.
    """
    found = find_dictionaries(data)
    if not found:
        raise NotKlipperImageError(
            "no Klipper data dictionary in it; give the klipper.bin, .hex or .elf of a Klipper build, "
            "unencrypted and uncompressed"
        )
    offset, dictionary = found[0]
    for other_offset, other in found[1:]:
        if other.raw_sha256 != dictionary.raw_sha256:
            raise AmbiguousDictionaryError(
                f"two different Klipper dictionaries: {dictionary.version!r} at {offset:#x} and "
                f"{other.version!r} at {other_offset:#x}; give an image that holds one firmware only"
            )
    return dictionary


def is_dictionary(document: object) -> bool:
    """Say whether parsed JSON has the shape of a Klipper dictionary."""
    return isinstance(document, dict) and all(
        isinstance(document.get(key), dict) for key in ("commands", "responses", "config")
    )


def _opens_like_a_dictionary(data: bytes, offset: int) -> bool:
    """Unpack only the first bytes of a candidate: random bytes have one every 2 KiB, nearly all fail here."""
    unpacker = zlib.decompressobj()
    opening = b""
    # In small steps, because an error loses what the same call had unpacked before it.
    step = 16
    for start in range(offset, min(offset + 4096, len(data)), step):
        try:
            opening += unpacker.decompress(data[start : start + step], _OPENING_BYTES)
        except zlib.error:
            break
        if len(opening) >= _OPENING_BYTES or unpacker.eof:
            break
    return _OPENING.match(opening) is not None


def _inflate(data: bytes, offset: int) -> tuple[bytes, int]:
    """Return the unpacked bytes of the zlib stream at ``offset`` and the offset after it."""
    unpacker = zlib.decompressobj()
    where = f"the Klipper dictionary at {offset:#x}"
    try:
        raw = unpacker.decompress(memoryview(data)[offset:], MAX_JSON_BYTES)
    except zlib.error as error:
        raise DictionaryError(f"{where} is damaged ({error}); the file is corrupt, fetch or build it again") from None
    if unpacker.eof:
        return raw, len(data) - len(unpacker.unused_data)
    if unpacker.unconsumed_tail:
        raise DictionaryError(f"{where} is larger than {MAX_JSON_BYTES} bytes; this is no Klipper build")
    raise DictionaryError(f"{where} is truncated: the file ends inside it; fetch or build it again")


def _constant(name: str, value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DictionaryError(
            f"the Klipper constant {name!r} is {value!r}, expected an integer or a string; rebuild the firmware"
        )
    return _printable(f"the constant {name!r}", value) if isinstance(value, str) else value


def _text(fields: dict[str, Any], key: str, required: bool = False) -> str:
    value = fields.get(key, "")
    if not isinstance(value, str) or (required and not value):
        found = repr(value) if key in fields else "nothing"
        raise DictionaryError(f"the Klipper dictionary has {found} as {key!r}, expected a string; rebuild the firmware")
    return _printable(repr(key), value)


def _printable(what: str, value: str) -> str:
    """Refuse control characters: these strings reach terminals, logs and one-line errors."""
    if not value.isprintable():
        raise DictionaryError(
            f"{what} in the Klipper dictionary is {value!r}, not printable text; rebuild the firmware"
        )
    return value
