"""Forward and backward passes: batches in the memory, passes that methods share, paths."""
