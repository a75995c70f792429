"""Delivery: the process that ships the journals of a buffer to the sinks, and how a program starts it."""
