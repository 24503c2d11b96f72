"""What a classifier is, and loading one."""
