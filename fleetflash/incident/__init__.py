"""What is kept of a failure: evidence without secrets, a diagnosis, and a record of who changed what and why."""
