"""The attribution methods, a module each."""
