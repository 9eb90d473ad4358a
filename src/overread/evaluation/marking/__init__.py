"""Marks on images against lesions."""
