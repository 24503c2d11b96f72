"""Agreement of attributions with segmentations: metrics, chance, control maps and intervals."""
