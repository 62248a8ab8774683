"""What computes a network on clips: torch, or another engine on the CPU."""
