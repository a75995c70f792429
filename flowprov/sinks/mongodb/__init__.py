"""MongoDB as a sink, and its sink reader."""
