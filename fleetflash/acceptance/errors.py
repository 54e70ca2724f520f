"""What can be wrong with what is judged, told in one line."""


class AcceptanceError(Exception):
    """Base class."""


class ContractError(AcceptanceError):
    """A contract can't be used: ``FILE:LINE: `` and what is wrong there."""


class LogError(AcceptanceError):
    """A log can't be read."""


class PanicError(AcceptanceError):
    """An ELF file can't be read."""
