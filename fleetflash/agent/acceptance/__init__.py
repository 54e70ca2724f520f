"""Whether a boot is accepted: what a chip says after its reset, judged line by line against a contract."""
