"""Eye tracking: `egd` and `reflacx` read the data sets, `sources` tells them apart, `heatmap` makes maps of them."""
