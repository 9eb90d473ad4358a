"""What maps are held against: random weights, maps that know nothing, masks, and places where no finding can be."""
