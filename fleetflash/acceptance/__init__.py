"""Contracts as people write them, logs as they find them, and verdicts as they read them."""
