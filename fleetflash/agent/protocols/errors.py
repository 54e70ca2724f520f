"""What can go wrong between a flasher and a board."""


class ProtocolError(Exception):
    """The board answered something else than the protocol allows. The message names the command."""


class NoAnswerError(ProtocolError):
    """The board stayed silent."""


class RefusedError(ProtocolError):
    """The board understood a command and refused it."""


class VerifyError(RefusedError):
    """The board's flash does not hold what was written."""


class ProtectedError(RefusedError):
    """The chip is read-protected; lifting that erases it, so it is done only when asked."""


class WrongChipError(ProtocolError):
    """Another chip, or another board, than the transaction names."""


class CannotReadError(RefusedError):
    """The bootloader has no way to read code flash back."""
