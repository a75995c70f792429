"""MongoDB as a sink, and its journals read back."""
