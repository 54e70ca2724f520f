"""The messages by which nodes of a CAN bus are found, named, and asked for their bootloader.

Source of the facts: Klipper's ``docs/CANBUS_protocol.md`` (ids, query, Klipper's own node id) and, where that is
silent, ``src/generic/canserial.c`` of Klipper (request for the bootloader, the last byte of the answer) and of Katapult
(its node id).

- Admin messages go to 3F0 and are answered on 3F1. A node with the id ``n`` hears on ``0x100 + 2n`` and speaks on the
  next one.
- The answer to a query names the six bytes of the node's uuid, and how it wants its node id to be set: 01 is Klipper,
  11 is Katapult. A node that has an id does not answer a query.
- A node takes a new id at any time. Klipper shuts down when its id is given to another node, so every uuid has an id of
  its own here; klippy itself counts from 4.
"""

import zlib
from dataclasses import dataclass
from typing import Optional

ADMIN, ADMIN_ANSWER = 0x3F0, 0x3F1
QUERY_UNASSIGNED, SET_KLIPPER, REQUEST_BOOTLOADER, SET_KATAPULT = 0x00, 0x01, 0x02, 0x11
NEED_NODE_ID = 0x20
UUID_LENGTH = 6
KINDS = {SET_KLIPPER: "Klipper", SET_KATAPULT: "Katapult"}
#: Node ids that klippy comes to last.
FIRST_NODE_ID, NODE_IDS = 0x40, 0xC0


@dataclass(frozen=True)
class Unassigned:
    """A node without an id; ``kind``: ``Klipper`` or ``Katapult``."""

    uuid: bytes
    kind: str


def node_id(uuid: bytes) -> int:
    """Return the node id that a uuid is given, always the same."""
    return FIRST_NODE_ID + zlib.crc32(uuid) % NODE_IDS


def hears_on(node: int) -> int:
    """Return the CAN id on which a node hears; it speaks on the next one."""
    return 0x100 + 2 * node


def query() -> bytes:
    return bytes([QUERY_UNASSIGNED])


def set_node_id(command: int, uuid: bytes, node: int) -> bytes:
    """``command``: ``SET_KLIPPER`` or ``SET_KATAPULT``, of which a node obeys its own."""
    return bytes([command]) + uuid + bytes([node])


def request_bootloader(uuid: bytes) -> bytes:
    return bytes([REQUEST_BOOTLOADER]) + uuid


def parse_answer(data: bytes) -> Optional[Unassigned]:
    """Return the node that an admin answer tells of; none for any other message."""
    if len(data) <= UUID_LENGTH or data[0] != NEED_NODE_ID:
        return None
    command = data[1 + UUID_LENGTH] if len(data) > 1 + UUID_LENGTH else SET_KLIPPER
    return Unassigned(data[1 : 1 + UUID_LENGTH], KINDS.get(command, f"kind {command:#04x}"))
