"""Which tensors and layers a network has, and where their cells lie in the image."""
