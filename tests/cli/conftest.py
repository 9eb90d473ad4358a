"""Fixtures of commands that a model is asked for."""

from tiny_models import files, make_model

__all__ = ["files", "make_model"]
