"""Where records go: sinks that are fed from the journals, by a process of its own."""
