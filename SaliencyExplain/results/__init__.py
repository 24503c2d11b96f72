"""What is computed of an image, as plain data without torch."""
