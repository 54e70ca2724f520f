"""What can be wrong with a toolchain, a source, a configuration or a build: one line each, fit to be shown."""


class BuildError(Exception):
    """Base class; ``str()`` says what was found, what was expected and what to do next."""


class ToolchainError(BuildError):
    """A toolchain is not there and can't be had."""


class DownloadError(ToolchainError):
    """An archive can't be fetched, or is not the one that was pinned."""


class ArchiveError(ToolchainError):
    """An archive is damaged, of an unknown format, or would write outside of its directory."""


class SourceError(BuildError):
    """The firmware's repository can't be had, or has no such commit."""


class OverlayError(BuildError):
    """Extra files or patches don't go onto the source."""


class ConfigurationError(BuildError):
    """The source's Kconfig does not accept what was asked for."""


class CompileError(BuildError):
    """``make`` failed."""


class BuildHostError(BuildError):
    """The host that was to compile can't, or was lost. The line names it."""


class OutputError(BuildError):
    """``make`` succeeded, but what it built is not what was asked for."""


class BoardTypeError(BuildError):
    """The description of a board type or a toolchain can't be. The line names the field."""


class HostTestError(BuildError):
    """The project's own tests failed on the builder."""
