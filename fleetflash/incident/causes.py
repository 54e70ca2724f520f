"""Causes of failures that are known, as data: how each shows, what it means, and what to do next.

A pattern is a regular expression with named groups, which ``says`` and ``next`` may use; so may they ``{board}`` and
``{host}``, and a sign ``{line}``. The first of ``CAUSES`` that a failure's own words show is the cause; ``SIGNS`` are
looked for in the host's logs, and are told beside it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """``name``: one word for tables and records.

    For a sign: ``log`` that shows it, and ``only`` the causes beside which it means something; empty means all.
    """

    name: str
    pattern: str
    says: str
    next: str
    log: str = ""
    only: tuple[str, ...] = ()


CAUSES = (
    Cause(
        "brown-out",
        r"its boot is rejected by 'brownouts'|does not run \S+: Brownout detector",
        "The board's supply sags while the new firmware starts: its brown-out detector has reset it.",
        "Give {board} a stronger supply or a shorter cable, then run again; see boots/ in this bundle.",
    ),
    Cause(
        "panic",
        r"its boot is rejected by 'panics'|does not run \S+: (?:Guru Meditation|abort\(\))",
        "The new firmware panicked while it started.",
        "Read boots/ in this bundle: it says in which functions, where the build was made here. Mend the firmware, or "
        "pin another.",
    ),
    Cause(
        "boot-rejected",
        r"its boot is rejected by '(?P<rule>[^']*)' \((?P<where>[^)]*)\)",
        "The new firmware was written and starts, but its contract does not accept the boot: {rule} ({where}).",
        "Read boots/ and the monitor log in this bundle, and look on {board} at what the rule is about. If the rule is "
        "wrong, mend it; fleetflash accept judges the log again.",
    ),
    Cause(
        "backup-command",
        r"backup_command (?P<command>\S+) (?:ended|did not end)",
        "The user's own {command} did not succeed, so the board was left as it was.",
        "Put {command} right on {host} (its last words are above), then run again.",
    ),
    Cause(
        "tool-died",
        r"esptool (?:ended|takes nothing|says nothing)",
        "esptool did not go on to its end.",
        "Run again. If it ends at the same place: its last words are above; see that {host} has memory and disk left, "
        "and that its virtualenv is whole (deploys/site.py makes it anew).",
    ),
    Cause(
        "switched-off",
        r"may be switched off still",
        "The board was switched off because it did not come back, and could not be switched on again.",
        "Switch {board} on by hand at {host}, see why its power device or command failed, then run again.",
    ),
    Cause(
        "wrong-chip",
        r"found chip (?P<found>\S+), expected (?P<expected>\S+)",
        "The chip on this port is another one than the inventory names: {found} instead of {expected}.",
        "Correct the chip or the port of {board} in the inventory, then run again.",
    ),
    Cause(
        "wrong-board",
        r"found the board with unique id (?P<found>\w+), expected (?P<expected>\w+)",
        "Another board than the one that was met before is on this port.",
        "If {board} was replaced, set uid = '{found}' for it in the inventory; otherwise put the cables right.",
    ),
    Cause(
        "protected",
        r"the chip is read-protected|protection was lifted|Secure (?:Boot|Download)|flash encryption",
        "The chip is protected against being read or written.",
        "Where the protection may be lifted, which erases the chip, set unprotect = True for {board}; what is burnt "
        "into an ESP chip stays.",
    ),
    Cause(
        "port-held",
        r"(?:held|locked|in use|held exclusively) by (?:process |pid )(?P<pid>\d+) \((?P<command>[^)]*)\)",
        "Process {pid} ({command}) on the host has the port open.",
        "End process {pid} on {host}, then run again.",
    ),
    Cause(
        "sudo-missing",
        r"through sudo without a password|sudo refused|sudo can't be used|must run as root|can't use sudo",
        "The login may not run the agent as root.",
        "Grant it with a file in /etc/sudoers.d on {host}, as the message says (deploys/site.py writes it).",
    ),
    Cause(
        "verify-mismatch",
        r"verify(?: at (?P<offset>0x[0-9a-fA-F]+))?: (?:the flash differs|\S+ has sha256)",
        "What was read back differs from what was written (offset {offset}): a bad cable, an unsteady supply, worn "
        "flash, or a chip that is read-protected.",
        "Run again. If it fails at the same offset, change cable and supply, then the board; if it fails at the very "
        "beginning, set unprotect = True for {board}.",
    ),
    Cause(
        "wrong-version",
        r"(?:runs|boots) (?P<found>\S+),? expected (?P<expected>[^\s;.]\S*[^\s;.])",
        "The new firmware starts but reports {found} instead of {expected}: another image than its name says, or "
        "another board answers.",
        "Check the pinned artifact (fleetflash artifact show) and where {board}'s port leads; then pin the right one.",
    ),
    Cause(
        "wrong-build",
        r"boots another build|with (?P<constant>\w+) = \S+, expected|built by",
        "The firmware has the right version but was built otherwise.",
        "Register the build that the board shall run and pin it by its id (firmware_version = 'sha256:…').",
    ),
    Cause(
        "does-not-run",
        r"does not say what it runs|does not run \S+",
        "The new firmware was written and verified, but the board does not start it or does not answer.",
        "Check that the image is for this board: chip, clock, interface and flash_offset; then pin one that is.",
    ),
    Cause(
        "klippy-not-ready",
        r"klippy is not ready: (?P<reason>[^;]*)",
        "Klipper did not become ready with the new firmware: {reason}",
        "Read the end of klippy.log in this bundle. If it asks for another Klipper, move both together "
        "(policy = 'exact' with klipper_version), or correct printer.cfg.",
    ),
    Cause(
        "objects",
        r"object (?P<object>[^:;]+): ",
        "Klipper became ready, but {object} is not as the inventory's checks say.",
        "Look at {object} on {host}: its wiring, its section in printer.cfg, and whether the check fits it.",
    ),
    Cause(
        "disk-full",
        r"No space left on device|Errno 28|only \d+ MiB free",
        "The disk of the host is full.",
        "Make room on {host} (old logs and gcodes), then run again.",
    ),
    Cause(
        "image-damaged",
        r"expected sha256 (?P<expected>\w+), found|arrives? with sha256|what arrived has sha256",
        "An image on the host is not what its hash says.",
        "Run again: it is sent anew. If that repeats, check the host's SD card.",
    ),
    Cause(
        "toolchain-missing",
        r"no gcc that could build it|dpkg-query|toolchain|make is not installed",
        "A compiler that is needed is not there.",
        "Install what the message names (apt-get install …) and run again.",
    ),
    Cause(
        "tool-missing",
        r"no esptool in|is no program on this host|is not on this host|needed is esptool|its arguments are known of",
        "A flash tool that {board} needs is not there, or in a version that is not known.",
        "Install it as the message says; deploys/site.py brings esptool to hosts that need it.",
    ),
    Cause(
        "nobody-pressed",
        r"nobody brought the board into its (?:bootloader|ROM loader) within (?P<seconds>\S+) s",
        "Nobody pressed the button within {seconds} s.",
        "Run again with --data attended=true when somebody stands at {host}; hands_seconds gives more time.",
    ),
    Cause(
        "no-bootloader",
        r"did not enter|no \S.* answers(?: after a reset|, and the board)|is not in its ROM loader",
        "The board did not enter its bootloader.",
        "Check wiring, cable and power of {board}; where DTR and RTS lead nowhere, set entry = 'button'.",
    ),
    Cause(
        "unplugged",
        r"unplugged or restarted while in use|the device behind it is gone|no such port|is not there|after \d+ s",
        "The port went away: the cable, the USB hub, or the board's supply.",
        "Look at the cable and the supply of {board}; the kernel's log in this bundle says when it went.",
    ),
    Cause(
        "refused",
        r"(?:refused with status (?P<status>\w+)|refused by the bootloader|could not do it|\(NACK\))",
        "The bootloader understood a command and refused it.",
        "Cycle the power of {board} and run again. If it refuses at the same place, its flash is worn or smaller than "
        "the inventory says.",
    ),
    Cause(
        "silent",
        r"no answer within|says nothing for|takes nothing for|takes no data since|no Klipper firmware answers",
        "The board stopped answering in the middle.",
        "Check cable and supply (a brown-out looks like this), cycle the power of {board}, run again.",
    ),
    Cause(
        "garbled",
        r"wrong checksum|arrived garbled|cut short|not an ISP answer|not a Katapult answer|neither ACK nor NACK",
        "What came from the board was damaged on the way.",
        "Change the cable, keep it away from motors and heaters, and run again.",
    ),
    Cause(
        "controller-lost",
        r"controller's session was lost|no controller took the port|only a controller",
        "The connection to the computer that wrote this board was lost.",
        "Run again when it is stable, or give the board placement = 'host'.",
    ),
    Cause(
        "service-failed",
        r"systemctl (?:--\S+ )*start|systemctl stop",
        "systemd could not start or stop the Klipper service.",
        "Look at systemctl status on {host}, and at the unit's log in this bundle.",
    ),
    Cause(
        "host-lost",
        r"SSH connection was lost|the link was lost|opened no SSH channel",
        "The host could not be reached any more.",
        "Its transaction goes on without this computer. Run again when {host} is back, to see how it ended.",
    ),
    Cause(
        "interrupted",
        r"interrupted",
        "The transaction died in the middle: a power cut, a reboot, or a killed process.",
        "Check the supply of {host}, then run again.",
    ),
)

SIGNS = (
    Cause(
        "brown-out",
        r"under-?voltage|over-?current",
        "The kernel saw the supply sag ({line}).",
        "Use a stronger supply, or power the boards from another one than the host's.",
        log="kernel",
    ),
    Cause(
        "usb-disconnect",
        r"USB disconnect",
        "The kernel saw a USB device go ({line}).",
        "Check cable, hub and supply.",
        log="kernel",
        # A board that is on USB itself also goes with every reset.
        only=("unplugged", "silent", "interrupted"),
    ),
    Cause(
        "out-of-memory",
        r"out of memory|oom-kill",
        "The host ran out of memory ({line}).",
        "Stop what else runs on the host.",
        log="kernel",
    ),
    Cause(
        "bad-disk",
        r"I/O error|EXT4-fs error",
        "The host's disk failed ({line}).",
        "Replace the SD card before anything else.",
        log="kernel",
    ),
    Cause(
        "klippy-protocol",
        r"MCU Protocol error|mcu '[^']*': Unable to connect|Option '[^']*' (?:is not valid|in section)|Internal error",
        "klippy complained ({line}).",
        "Read the end of klippy.log in this bundle.",
        log="klippy",
    ),
)
