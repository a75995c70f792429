"""Probes of GPUs: which devices the process sees, and the libraries of their makers."""
