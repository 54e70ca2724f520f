"""Desired state that all hosts share."""

# Host keys that are not in known_hosts are refused: enrol a new host with ssh-keyscan, or by logging in once.
ssh_strict_host_key_checking = "yes"
