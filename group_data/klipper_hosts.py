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

# The Klipper service of the host, and where its API socket lies ("" = where KIAUH puts it).
klipper_service = "klipper.service"
klippy_socket = ""
