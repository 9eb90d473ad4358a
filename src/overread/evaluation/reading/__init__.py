"""Readers among themselves, and a model beside them."""
