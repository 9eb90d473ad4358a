"""One file per image format: bytes to pixels."""
