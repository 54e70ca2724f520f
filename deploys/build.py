"""Build the firmware of every board and gateway type, each only if nobody has done so before.

    pyinfra inventory/builders.py deploys/build.py

What comes out are artifacts: boards are pinned to them by name and version, and deploys/flash.py brings them there.
"""

from pyinfra import host

from fleetflash.incident.redaction import of_run
from roles.builder import builder

of_run(host.state)  # before anything is logged: from here on, nothing secret is
if "builders" in host.groups:
    builder()
