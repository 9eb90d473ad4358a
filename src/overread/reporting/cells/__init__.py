"""Pages about cells: two stages against one, and which cells decided."""
