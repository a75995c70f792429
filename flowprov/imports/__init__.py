"""What comes into flowprov from other programs: it becomes records of a journal."""
