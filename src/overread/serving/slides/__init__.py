"""Slides of a run behind a page: their tiles, their heat maps and what was found on them."""
