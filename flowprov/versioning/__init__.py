"""Which code, data and environment a workflow ran on.

Flows in: where the program runs, and when. Flows out: a description as JSON values. Code of the repository
never runs, nothing is written to it, and nothing is fetched.
"""
