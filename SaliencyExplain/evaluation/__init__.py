"""Evaluation of maps: of one image, and of a whole study."""
