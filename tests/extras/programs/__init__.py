"""A program for each extra, which uses what needs it and says so; it runs in an environment of its own."""
