"""What is true of pixels: reading by content, preparing, packing, augmenting. Never imports torch."""
