"""What computes: the machine, its devices, and several processes that share the work."""
