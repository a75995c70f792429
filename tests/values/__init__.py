"""Tests of flowprov.values."""
