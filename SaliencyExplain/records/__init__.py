"""What is kept of a case: typed, torch-free, written and read in one place."""
