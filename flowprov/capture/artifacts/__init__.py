"""Artifacts that a program logs: their lines at once, their digests from a thread beside the program."""
