"""How well scores tell two groups apart."""
