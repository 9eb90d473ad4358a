"""What the report tells of slides: the search for lesions, what was skipped, and slides beside their heat maps."""
