"""More images, more grades, other sites."""
