"""Removal of parts of an image, and the fills that replace them."""
