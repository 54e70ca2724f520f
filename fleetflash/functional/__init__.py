"""Does a gateway do its work? Web page, API, telemetry and CAN frames, against what the inventory says."""
