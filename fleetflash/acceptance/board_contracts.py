"""The contracts of a host's boards, read where the inventory names them."""

from collections.abc import Iterable
from pathlib import Path

from fleetflash.acceptance.contract_file import read_contract
from fleetflash.acceptance.errors import AcceptanceError
from fleetflash.agent.acceptance.contract import POWER_CYCLE, Contract
from fleetflash.agent.acceptance.judge import EquipmentError, check_equipment
from fleetflash.boards import Board


def read_contracts(boards: Iterable[Board]) -> dict[str, Contract | str]:
    """Return board name → its contract, or why it can't be used; nothing for boards without one."""
    found: dict[str, Contract | str] = {}
    for board in boards:
        if board.contract:
            try:
                found[board.name] = contract = read_contract(Path(board.contract).expanduser())
                check_equipment(contract, board.equipment)
                if contract.retry.recovery == POWER_CYCLE and board.power is None:
                    found[board.name] = (
                        f"contract: {contract.file} has a rejected boot recovered by a power cycle, and {board.name} "
                        "has no power in the inventory; name what switches it, or take recovery out of the contract"
                    )
            except (AcceptanceError, EquipmentError) as error:
                found[board.name] = f"contract: {error}"
    return found
