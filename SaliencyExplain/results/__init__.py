"""What comes out: attributions of an image, as Python, files and panels have them."""
