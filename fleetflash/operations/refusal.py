"""What an operation does that can't be done: say why, and fail its host."""

from typing import Any

from pyinfra import logger


def refuse(state: Any, host: Any, reason: str) -> bool:
    """For ``FunctionCommand``: log the reason and fail the host."""
    logger.error(f"{host.print_prefix}{reason}")
    return False
