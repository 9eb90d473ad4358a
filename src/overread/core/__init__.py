"""What everything stands on: errors, files, random numbers, progress, and decoding in a process of its own."""
