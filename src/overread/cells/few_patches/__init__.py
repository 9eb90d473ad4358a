"""Maps of features learned from few marked patches, one small network a feature, after Chen 2017."""
