"""Reusable parts of deploys, one per kind of host."""
