"""The agent's subcommands. The bootstrap on the SSH channel has said ``wire.MARKER`` before this runs."""

import sys
from typing import Callable, Dict, List, Optional

from fleetflash.agent import serve

#: Subcommand → function of (stdin descriptor, stdout descriptor), returning the exit code.
COMMANDS: Dict[str, Callable[[int, int], int]] = {"serve": serve.main}


def main(argv: Optional[List[str]] = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(f"expected one of: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return COMMANDS[arguments[0]](0, 1)


if __name__ == "__main__":
    sys.exit(main())
