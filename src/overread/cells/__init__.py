"""Cells and other objects: measured, cut out and classified, and what each stage of that costs."""
