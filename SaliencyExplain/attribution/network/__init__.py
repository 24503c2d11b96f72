"""A network as a function from an image to one score per class, and what it keeps."""
