"""Firmware made from source: pinned toolchains, configuration as code, and every build made once."""
