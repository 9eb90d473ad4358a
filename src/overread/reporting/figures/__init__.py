"""Figures: each draws stored numbers and computes none."""
