"""Answers about runs: which there are, with what parameters, and what they measured.

Flows in: the journals of campaigns. Flows out: runs, their parameters and metrics, as dictionaries and as
DataFrames. Nothing here knows of a source.
"""
