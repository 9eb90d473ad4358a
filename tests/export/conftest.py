"""The fixtures that these tests share with those of the command."""

from tiny_models import cases, files, make_model, one_thread, pairs

__all__ = ["cases", "files", "make_model", "one_thread", "pairs"]
