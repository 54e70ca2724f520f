"""What can be wrong with an image, a chip, an artifact or a pin: one line each, fit to be shown to a user.

Every class derives from ``FirmwareError``, so that a caller which only reports needs one ``except``.
"""


class FirmwareError(Exception):
    """Base class; ``str()`` is one line that says what was found, what was expected and what to do next."""


class ImageError(FirmwareError):
    """A file is not a usable firmware image."""


class TruncatedImageError(ImageError):
    """A file ends before its format says that it does."""


class NotKlipperImageError(ImageError):
    """An image carries no Klipper data dictionary."""


class DictionaryError(ImageError):
    """A Klipper data dictionary is there but is damaged or incomplete."""


class AmbiguousDictionaryError(DictionaryError):
    """An image carries two different Klipper data dictionaries."""


class UnknownChipError(FirmwareError):
    """No chip of that name is known."""


class ImageFitError(FirmwareError):
    """An image does not belong on a chip."""


class ImageSizeError(ImageFitError):
    """An image lies outside the flash of a chip."""


class WrongChipError(ImageFitError):
    """An image was built for another microcontroller."""


class PinError(FirmwareError):
    """A firmware pin is not a string that can name a version."""


class ArtifactError(FirmwareError):
    """An artifact's description is not valid."""


class StoreError(FirmwareError):
    """The artifact store cannot be read or written."""


class ArtifactMissingError(StoreError):
    """The store holds no such artifact."""


class AmbiguousArtifactError(StoreError):
    """Two or more artifacts fit where one was asked for."""


class ArtifactConflictError(StoreError):
    """The same image is registered already, under another name or version."""


class CorruptArtifactError(StoreError):
    """What the store holds is not what was put there."""


class SymbolsMissingError(StoreError):
    """No ELF file is there that belongs to an application."""
