"""Artifacts as they were recorded: tables of them, the lineage between them, and what made a file."""
