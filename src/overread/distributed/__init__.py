"""Many trainings: what calls learning again and again, and nothing else."""
