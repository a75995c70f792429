"""Telemetry: what the machine, the process and its GPUs did meanwhile.

Flows in: readings of probes, from a thread of its own or, where asked for, inline. Flows out: samples, as
control records of the journals that are in use.
"""
