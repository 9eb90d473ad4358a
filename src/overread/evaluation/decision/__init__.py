"""Which of several classes a case is called: the frozen rule, and how it is chosen on tuning predictions."""
