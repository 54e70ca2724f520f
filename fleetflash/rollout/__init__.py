"""In which order a fleet is brought forward, and when it stops."""
