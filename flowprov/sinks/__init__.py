"""Sinks: servers to which the shipper delivers journals, and from which they are read back."""
