"""Accuracies and logs -> the table and the pictures that people look at."""
