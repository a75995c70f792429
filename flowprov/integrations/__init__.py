"""Adapters for frameworks that run the training loop themselves: one file for each of them.

Flows in: what a framework tells its callbacks, loggers and trackers. Flows out: the calls that a program with
a loop of its own makes: parameters, metrics, epochs, artifacts, and where a later attempt went on.

Each file imports its framework, and nothing else imports the files: a program asks for the one it needs.
"""
