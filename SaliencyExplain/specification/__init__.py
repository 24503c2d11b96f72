"""What is to be computed: methods, target, seed, limits and references, described once."""
