"""A simulated print farm: real Debian hosts with systemd, sshd, klippy and Moonraker, and simulated boards."""
