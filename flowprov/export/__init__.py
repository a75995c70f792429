"""What leaves flowprov for other programs, each in its own form."""
