"""The page of each command, in the style of the report."""
