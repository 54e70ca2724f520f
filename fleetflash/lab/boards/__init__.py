"""Simulated boards: real bytes on a pseudo-terminal.

Written from protocol descriptions, never from the code that flashes them: that is what they test.
"""
