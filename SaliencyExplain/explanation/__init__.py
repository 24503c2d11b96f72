"""An image prepared for a classifier, and what is computed of it: maps, costs, clicks."""
