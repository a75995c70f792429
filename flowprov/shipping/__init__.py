"""Delivery: the shipper, a process that delivers the journals of a buffer, and how a program starts it."""
