"""Telemetry: what the machine, the process and its GPUs did while the program ran.

Flows in: readings of probes, taken by a thread of its own or, in the mode "exact", by the tasks themselves.
Flows out: samples, as control records in the journals that are in use.
"""
