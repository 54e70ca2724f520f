"""What can be wrong with what a host shall get: one line each, fit to be shown."""


class ProvisionError(Exception):
    """Base class; ``str()`` says what was found, what was expected and what to do next."""


class RequirementsError(ProvisionError):
    """A file of requirements, or the wheels for it, won't do."""


class HostRefusedError(ProvisionError):
    """The host declined, and says why."""
