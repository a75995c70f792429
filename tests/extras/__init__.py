"""What ``make extras`` does: the wheel and each of its extras, installed and used in a clean environment."""

FOR_DEVELOPMENT = ("test", "docs", "dev")
"""The extras that flowprov itself does not use: that they can be installed is all that is looked at."""
