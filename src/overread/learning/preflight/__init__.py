"""Whether a training can learn at all, looked at in seconds before it begins."""
