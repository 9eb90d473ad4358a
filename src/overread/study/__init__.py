"""The question of a study, and its steps from table to report."""
