"""From predictions to questions, from questions to estimates, curves and gaps."""
