"""Outlines of objects, judged: which were found, missed, merged and split, with intervals by patient."""
