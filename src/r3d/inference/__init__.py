"""A trained network and clips -> the most likely classes of each video."""
