"""Top-k results -> accuracy, as the reference and the ActivityNet challenge count it."""
