"""Desired state of all Klipper hosts. A host or a board may say otherwise in the inventory."""

# The firmware of the boards: an artifact's name and the version that every board must run.
# See what is there with: fleetflash artifact list
firmware = "klipper-bmcu-c"
firmware_version = "v0.12.0"

# What the boards are.
chip = "ch32v203c8t6"
programmer = "wch_isp"

# "compatible": each board stands for itself; "exact": the boards of a host move together and go back together.
policy = "compatible"

# Is somebody there to press buttons? (--data attended=true)
attended = False

# How many backups are kept of each board, and for how many days; the last known-good always is (docs/backups.md).
backup_keep = 5
backup_days = 365

# A program of the host that must succeed before a board is written; it runs as root while Klipper is stopped.
# backup_command = "/usr/local/bin/save-printer"
# backup_seconds = 120.0

# How the boards are switched off and on when one does not come back: by Moonraker, a command or a person.
# power = {"moonraker": "usb hub"}

# What Klipper's objects must say once it is ready after a flash, within so many seconds.
# object_checks = [{"object": "temperature_sensor ams", "field": "temperature", "min": 5, "max": 60}]
# object_checks_seconds = 30

# The Klipper service of the host, and where its API socket lies ("" = where KIAUH puts it).
klipper_service = "klipper.service"
klippy_socket = ""

# What deploys/site.py brings a host itself to (docs/site.md); a host without it gets nothing but its boards.
# klipper = {
#     "repository": "https://github.com/Klipper3d/klipper.git",
#     "ref": "v0.12.0",  # a tag or a commit
#     "fetch": "push",  # from this computer over SSH; "host": the host fetches it itself
#     "requirements": "requirements/klippy.txt",  # every line with its hashes
#     "wheels": "wheels/klippy",  # on this computer; left out, the host's pip asks its index
#     "moonraker": {"requirements": "requirements/moonraker.txt", "wheels": "wheels/moonraker"},
# }

# May a run save and discard what somebody has changed in ~/klipper, and add its line to their printer.cfg?
# klipper_discard_changes = False
# klipper_add_include = False

# The virtualenv with esptool, for hosts that have boards with programmer = "esptool".
# flash_tools = {"requirements": "requirements/esptool.txt", "wheels": "wheels/esptool"}
