"""What ``make extras`` does: the wheel and each of its extras, installed and used in a clean environment."""
