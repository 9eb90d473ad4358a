"""The objects of an image, outlined: read from masks of every form, written as label images."""
