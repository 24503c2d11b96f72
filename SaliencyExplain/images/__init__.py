"""Reading and writing images and segmentations; grids and affines."""
