"""Explanation: where a network looked, and whether the map that says so is worth anything."""
