"""What keeps a board where a rollback has brought it: does it forbid what is wanted now, and what ends it? No I/O.

A hold ends when somebody clears it, or when the inventory pins what it holds: then nothing is left to hold against.
"""

from fleetflash.agent.schema import Hold


def why_held(hold: Hold | None, wanted: str, version: str, host: str, board: str) -> str:
    """Say why a board must not be brought to an image; empty when nothing keeps it.

    + wanted: the sha256 of the image; of the host code, the commit
    + version: its version
    """
    if hold is None or hold.image_sha256 == wanted:
        return ""
    name = f"'{board}'" if " " in board else board
    return (
        f"held at {hold.version} since a rollback by {hold.controller or 'unknown'}, so it does not go to {version}; "
        f"pin {hold.version} in group_data, or let it go: fleetflash hold clear INVENTORY {host} {name}"
    )


def remark(hold: Hold | None, wanted: str) -> str:
    """Say that a board which is where it shall be is held there; empty when it is not."""
    return f"held at {hold.version} since a rollback" if hold is not None and hold.image_sha256 == wanted else ""
