"""The one error of the lab that its callers are meant to show to a person."""


class LabError(Exception):
    """A request that the lab cannot meet; the message is one line that says what to do."""
