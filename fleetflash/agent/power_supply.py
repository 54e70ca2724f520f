"""What switches a board off and on: a power device of Moonraker, or a program of the user's."""

import shutil

from fleetflash.agent import command, moonraker_power
from fleetflash.agent.moonraker_power import MoonrakerPowerError, SilentMoonrakerError
from fleetflash.agent.schema import BoardTransaction, Power


class PowerError(Exception):
    """A board could not be switched. The message names it and what switches it."""


def why_unusable(board: BoardTransaction) -> str:
    """Say what keeps a board from being switched, as far as can be seen before; empty when nothing does.

    A Moonraker that is silent now may answer later: that is no reason to leave the board alone.
    """
    power = board.power
    if power is None:
        return ""
    if power.command and not shutil.which(power.command[0]):
        return f"{board.name}: power: {power.command[0]} is no program on this host; install it, or correct power"
    if not power.device:
        return ""
    try:
        known = moonraker_power.devices(power.port)
    except SilentMoonrakerError:
        return ""
    except MoonrakerPowerError as error:
        return f"{board.name}: power: {error}"
    if power.device not in known:
        names = " and ".join(sorted(known)) or "none"
        return f"{board.name}: power: Moonraker has no power device {power.device!r}, it has {names}; correct power"
    if known[power.device] == moonraker_power.KLIPPER_DEVICE:
        return (
            f"{board.name}: power: {power.device!r} is switched by Klipper, which is stopped while boards are written; "
            "name a device of another type, or take power away"
        )
    return ""


def switch(board: BoardTransaction, power: Power, on: bool, transaction: str) -> None:
    """Switch a board on or off; raises ``PowerError``."""
    if power.device:
        try:
            moonraker_power.switch(power.port, power.device, on, power.seconds)
        except MoonrakerPowerError as error:
            raise PowerError(f"{board.name}: {error}") from None
        return
    word = "on" if on else "off"
    ended = command.run([*power.command, word], power.seconds, board, transaction)
    if ended.code == 0:
        return
    how = f"ended with exit code {ended.code}"
    if ended.code is None:
        how = f"did not end within {power.seconds:g} s and was killed"
    raise PowerError(f"{board.name}: power command {power.command[0]} … {word} {how}; it said: {ended.last_words}")
