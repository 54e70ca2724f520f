"""Who builds firmware: this computer, or hosts (docs/builds.md). What is built is in group_data/builders.py."""

builders = ["@local"]
