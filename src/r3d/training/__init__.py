"""Clips -> a trained network, resumable at every step."""
