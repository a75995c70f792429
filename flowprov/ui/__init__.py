"""``flowprov ui``: pages on all campaigns of a buffer, served on this machine, and kept up to date.

Flows in: a buffer folder, and what a browser asks for. Flows out: pages. ``pages`` makes them, and ``server``
answers.
"""
