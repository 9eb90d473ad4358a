"""What is asked of a case: one module a task. Nothing outside asks for the name of a task."""

from overread.tasks.target import TASKS, Kind, Target

__all__ = ["TASKS", "Kind", "Target"]
