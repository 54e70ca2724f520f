"""``python -m fleetflash``: the same as the ``fleetflash`` command."""

import sys

from fleetflash.cli import main

sys.exit(main())
