"""Who is let in, how many at a time, what they are told where they are not, and what is written down of it."""
