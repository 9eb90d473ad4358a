"""Two tables of predictions beside each other."""
