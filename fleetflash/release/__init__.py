"""What was put into service, where, when and by whom, what proves that it works, and all that it is made of."""
