"""What travels between a face and an engine, without torch."""
