"""What can go wrong with a board, as data: the one place where commands ask whether to behave."""

from dataclasses import dataclass

# By what a command is for; a bootloader's module says which of its own commands bear which of these names.
COMMANDS = (
    *("identify", "config", "key", "erase", "program", "verify", "read", "protect", "address", "flush", "end", "baud"),
    *("klipper", "stub"),
)

KINDS = {
    "pause": "stop before executing the command; go on at resume",
    "gate": "execute it; what ``then`` holds is planned from here on",
    "hang": "stop before executing the command; only a reset or a power cycle helps",
    "power_cut": "lose power: program and erase get as far as the byte, others are not executed",
    "wrong_status": "do not execute; answer with `status` (default 0xFE)",
    "drop": "do not execute, do not answer",
    "drop_reply": "execute, do not answer",
    "corrupt": "program: store the chunk with one bit flipped, say OK; others: break the answer's checksum",
    "garbage": "do not execute; answer with noise",
    "refuse_bootloader": "start the application although the bootloader was asked for",
    "boot_loop": "the application resets itself shortly after each start",
    "impostor": "answer as another board would: identify with another chip, config with another unique id",
    "other_version": "the application says that it is another version",
    "i2c_errors": "the application's I2C bus fails: an ESP board says so instead of what its devices would",
    "panic": "an ESP board's application fails after its last line, says where, and starts anew",
    "brownout": "an ESP board's supply dips in the middle of its application's lines, and it starts anew",
    "web_down": "an ESP board's web server does not start",
    "mqtt_silent": "an ESP board does not connect to its broker",
    "can_silent": "an ESP board sends none of the CAN frames with the identifier `text`, such as 356",
    "can_off_scale": "the voltage limits in an ESP board's CAN frames are ten times too high",
    "missing_line": "an ESP board's application does not say the lines that hold `text`",
}
SPEECH_KINDS = ("i2c_errors", "panic", "brownout", "missing_line")
NETWORK_KINDS = ("web_down", "mqtt_silent", "can_silent", "can_off_scale")
BOOT_KINDS = ("refuse_bootloader", "boot_loop", "other_version", *SPEECH_KINDS, *NETWORK_KINDS)
#: Those that need ``text``.
WITH_TEXT = ("missing_line", "can_silent")


@dataclass
class Fault:
    """One planned misbehaviour: the next ``count`` matching commands.

    ``version`` narrows what the application does wrong to the firmware of that version; ``text`` is what
    ``missing_line`` and ``can_silent`` leave out. ``then``: what comes after a ``gate``.
    """

    kind: str
    command: str | None = None
    byte: int | None = None
    count: int = 1
    status: int = 0xFE
    version: str | None = None
    text: str = ""
    then: "tuple[Fault, ...]" = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; known: {', '.join(KINDS)}")
        if self.command is not None and self.command not in COMMANDS:
            raise ValueError(f"unknown command {self.command!r}; known: {', '.join(COMMANDS)}")
        if self.count < 1:
            raise ValueError("count must be at least 1")
        if (self.kind in WITH_TEXT) != bool(self.text):
            raise ValueError(f"{' and '.join(WITH_TEXT)}, and nothing else, needs the text that is left out")
        if (self.kind == "gate") != bool(self.then):
            raise ValueError("a gate, and nothing else, needs the faults that come then")

    def matches(self, command: str, start: int | None, length: int, version: str | None) -> bool:
        if self.command not in (None, command) or self.version not in (None, version):
            return False
        if self.byte is None or start is None:
            return True
        return start <= self.byte < start + length


class Faults:
    """The faults still to come, first planned first served."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._planned.append(fault)

    def clear(self) -> None:
        self._planned.clear()

    def take(
        self, command: str, start: int | None = None, length: int = 0, *, version: str | None = None
    ) -> Fault | None:
        """The fault for a command that has arrived.

        ``start``, ``length``: the flash bytes it covers; ``version``: the application that it has reached.
        """
        for fault in self._planned:
            if fault.kind not in BOOT_KINDS and fault.matches(command, start, length, version):
                self._use(fault)
                self._planned += fault.then
                return fault if fault.kind != "gate" else None
        return None

    def take_boot(self, kind: str, version: str | None = None) -> bool:
        """Whether a fault of this kind strikes at this start; ``version``: the application that starts."""
        return self.take_boot_fault(kind, version) is not None

    def take_boot_fault(self, kind: str, version: str | None = None) -> Fault | None:
        """The fault of this kind that strikes at this start, if any."""
        for fault in self._planned:
            if fault.kind == kind and fault.version in (None, version):
                return self._use(fault)
        return None

    def _use(self, fault: Fault) -> Fault:
        fault.count -= 1
        if fault.count == 0:
            self._planned.remove(fault)
        return fault
