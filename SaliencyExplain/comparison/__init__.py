"""Agreement of attributions with segmentations: figures, chance, yardsticks and intervals."""
