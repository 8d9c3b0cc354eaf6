"""Eye tracking: `egd` reads EGD-CXR's tables, `heatmap` turns gaze points into a map."""
