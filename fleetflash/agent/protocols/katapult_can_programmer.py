"""STM32, RP2040 and others behind Katapult on a CAN bus: the same commands as over a UART, in frames of eight bytes.

The running Klipper is asked by its uuid to restart in its bootloader. There the node has no id and is given one.
"""

from typing import List, cast

from fleetflash.agent.port import Port
from fleetflash.agent.protocols.can_admin import Unassigned
from fleetflash.agent.protocols.can_node import CanNode
from fleetflash.agent.protocols.errors import NoAnswerError, ProtocolError, WrongChipError
from fleetflash.agent.protocols.katapult_programmer import REQUEST_SECONDS, REQUESTS, KatapultProgrammer
from fleetflash.agent.protocols.programmer import Capabilities, Found, Pace, Reopen, Target


class KatapultCanProgrammer(KatapultProgrammer):
    """One node of a bus with Katapult in front of its application."""

    capabilities = Capabilities(
        read_back=True,
        entries=("request", "button"),
        connection="can",
        # At Klipper's usual 1 Mbit/s: a frame of eight bytes has up to 135 bits on the bus.
        pace=Pace(baudrate=1_000_000, bits=17, chunk=64, overhead=28, fixed=4.0, busy=0.002),
    )

    def __init__(self, port: Port, target: Target, reopen: Reopen):
        super().__init__(port, target, reopen)
        self._seen: List[Unassigned] = []

    @property
    def node(self) -> CanNode:
        return cast(CanNode, self.port)

    def probe(self) -> Found:
        """``uid`` is the node's canbus_uuid, which it tells itself."""
        found = super().probe()
        uuid = self._speak().can_uuid()
        if uuid != self.node.uuid:
            raise WrongChipError(
                f"{self.port.name}: the node that answers has the uuid {uuid.hex()}; nothing was erased. Cycle the "
                "power of all nodes of the bus, which makes them forget their ids"
            )
        return Found(found.chip_id, uuid.hex(), found.protected)

    def _request(self) -> None:
        for _ in range(REQUESTS):
            self.node.request_bootloader()
            if self._answers_within(REQUEST_SECONDS):
                return
        others = ", ".join(f"{node.uuid.hex()} ({node.kind})" for node in self._seen) or "none"
        raise NoAnswerError(
            f"{self.port.name}: no Katapult with this uuid answers, and no Klipper made way for it; on the bus wait "
            f'for an id: {others}. Check uuid, power and wiring, or press RESET twice and set entry = "button"'
        )

    def _answers_after_return(self, tries: int) -> bool:
        """The bus stays where it is, whatever its nodes do."""
        return self._answers(tries)

    def _answers(self, tries: int) -> bool:
        """A node that has restarted has lost its id."""
        for _ in range(tries):
            self._seen = self.node.assign()
            try:
                self.found = self._speak().connect(timeout=0.25, tries=1)
            except ProtocolError:
                continue
            return True
        return False
