"""Studies of cells: measured, told apart in two stages, and which of them decided."""
