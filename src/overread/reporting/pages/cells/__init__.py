"""Pages of cells and of what is in them."""
