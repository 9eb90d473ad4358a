"""The reading room: a run behind a web page and REST, closed to all but this machine unless a token opens it."""
