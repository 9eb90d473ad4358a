"""Whether readers agree with each other and with a model."""
