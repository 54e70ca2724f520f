"""What keeps a check from being done."""


class CheckDataError(Exception):
    """The inventory says something about a check that can't be. One line that names the field."""


class AskError(Exception):
    """Nobody answered, so there is nothing to judge. One line that names who was asked, and the next step."""


class CanLogError(AskError):
    """A candump log can't be used. One line that names the log, the line of it and what was expected."""
