"""Of all tests."""

from hypothesis import settings

# No test depends on how fast this machine is.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
