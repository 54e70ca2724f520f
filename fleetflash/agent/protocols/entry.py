"""The ways into a boot ROM that is chosen by a pin: DTR and RTS hold BOOT0 and reset, or a person does."""

import time
from typing import Callable

from fleetflash.agent.port import Port
from fleetflash.agent.protocols.errors import NoAnswerError
from fleetflash.agent.protocols.programmer import Ask
from fleetflash.agent.protocols.wirings import ALL_WIRINGS, entry_sequence, reset_sequence
from fleetflash.agent.schema import Entry

#: Whether the bootloader answers within so many tries.
Answers = Callable[[int], bool]

#: A bootloader that is slow to start, or a board whose power dips, gets more than one chance.
ROUNDS_OF_ONE_WIRING = 6
ROUNDS_OF_ALL_WIRINGS = 2


def enter(port: Port, entry: Entry, ask: Ask, answers: Answers, gesture: str, bootloader: str) -> str:
    """Bring a board into its ``bootloader`` (its name, for messages); return the wiring that did it, if one did.

    ``gesture``: what a person is asked to do unless ``entry`` says otherwise. Raises ``NoAnswerError``.
    """
    if entry.method == "lines":
        return _enter_by_lines(port, entry.wiring, answers, bootloader)
    if entry.method == "button":
        enter_by_hand(port, entry, ask, answers, gesture)
        return entry.wiring
    raise NoAnswerError(f"{port.name}: no {bootloader} answers, and the board has no way to enter it")


def enter_by_hand(port: Port, entry: Entry, ask: Ask, answers: Answers, gesture: str) -> None:
    """Ask a person once, and wait for the bootloader until the entry's deadline."""
    ask(entry.gesture or gesture, entry.deadline)
    deadline = time.monotonic() + entry.deadline
    while time.monotonic() < deadline:
        if answers(1):
            return
    raise NoAnswerError(f"{port.name}: nobody brought the board into its bootloader within {entry.deadline:g} s")


def _enter_by_lines(port: Port, given: str, answers: Answers, bootloader: str) -> str:
    wirings = [given] * ROUNDS_OF_ONE_WIRING if given else ALL_WIRINGS * ROUNDS_OF_ALL_WIRINGS
    for wiring in wirings:
        port.play(entry_sequence(wiring))
        if answers(3 if given else 2) and (given or _is_wired_as(port, wiring, answers)):
            return wiring
    # Whatever the last attempt left on the lines must not hold the chip in reset.
    port.play([(True, True, 0.0)])
    tried = f"wiring {given}" if given else "all 8 wirings of DTR and RTS"
    raise NoAnswerError(
        f"{port.name}: the board did not enter its {bootloader} ({tried} tried); "
        'if it has no such wiring, set entry = "button"'
    )


def _is_wired_as(port: Port, wiring: str, answers: Answers) -> bool:
    """Whether ``wiring`` also leads out of the bootloader, and in again.

    Where DTR holds the chip in reset, the sequence for a reset by RTS enters too, but leaves BOOT0 raised: every
    reset would lead back into the bootloader.
    """
    port.play(reset_sequence(wiring))
    if answers(2):
        return False
    port.play(entry_sequence(wiring))
    return answers(3)
