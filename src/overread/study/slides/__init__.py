"""Slides in a study: their steps, new slides, and how heat maps are read."""
