"""Judging predictions: nothing here knows a model, and nothing here imports torch."""
