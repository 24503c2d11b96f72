"""Exact incremental inference: what a change of a small box does to a network's scores."""
