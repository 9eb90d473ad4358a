"""Clinical statistics as pure functions on arrays. Nothing here imports torch."""
