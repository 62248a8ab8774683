"""Annotation and frames -> batches of clips: where clips lie in a video, how they vary, loading."""
