"""The tests of flowprov; one folder for each package."""
