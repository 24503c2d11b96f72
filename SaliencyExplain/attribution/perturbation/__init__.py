"""What is removed from an image, and what stands in its place."""
