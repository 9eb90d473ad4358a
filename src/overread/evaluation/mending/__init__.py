"""Probabilities mended on tuning data."""
