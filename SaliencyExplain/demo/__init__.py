"""Phantoms, and the classifiers that are trained on them."""
