"""Which settings are the fastest on this machine, by measurement."""
