"""Programs that run beside the agent, in the tool virtualenv: the only ones of it that need packages."""
