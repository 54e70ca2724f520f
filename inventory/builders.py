"""Who builds firmware: this computer. What is built is in group_data/builders.py."""

builders = ["@local"]
