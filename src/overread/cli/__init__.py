"""What the commands share: options, ways to speak, and the commands that only tell what there is."""
