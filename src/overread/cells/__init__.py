"""Cells and other objects: outlined by a network, measured, cut out and classified, and what each stage of that costs."""
