"""A trained model -> files for other programs, each compared with it before it is handed over."""
