"""Where pyserial looks for the class behind ``fleetflash://``, once this package is in its list."""

from fleetflash.link.pyserial_url import Serial

__all__ = ["Serial"]
