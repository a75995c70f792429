"""Probes of GPUs: the devices that the process sees, read with the libraries of their vendors."""
