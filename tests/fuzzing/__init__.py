"""Fuzzing: seeded rounds of hostile input, each of which can be played again."""
