"""The config file: its options, what is accepted, and what it points to."""
