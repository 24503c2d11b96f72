"""From labelled images to a classifier: splitting, training, measuring, the bundle."""
