"""A model beside human readers."""
