"""Evaluation of a finished study: comparisons of methods, positions of evidence, groups of maps."""
