"""Agreement of attributions with segmentations: figures, chance, control maps and intervals."""
