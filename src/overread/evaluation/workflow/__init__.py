"""What would have happened with a model in the reading room."""
