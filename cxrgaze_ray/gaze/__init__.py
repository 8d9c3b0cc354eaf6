"""Eye tracking in, gaze maps out.

`egd` and `reflacx` read the data sets, `sources` tells them apart, `heatmap` makes maps of fixations, `packed` is how
a store holds them, and `saliency` stores, draws and restores predicted maps. Knows nothing of models or runs.
Nothing is imported here.
"""
