"""Phantoms of cells and of what is in them, outlined: films of neurons, slices of tomograms, cells under microscopes."""
