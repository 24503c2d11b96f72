"""The ways to fill the place of what is removed from an image, by name.

The command line finds the names here without loading torch;
:mod:`SaliencyExplain.attribution.perturbation.infill` does the work.
"""

from __future__ import annotations

#: Per channel the image's mean or minimum, the place's own mean, a given value; the image
#: blurred; noise; a smooth continuation of the surroundings.
FILLS = ("mean", "minimum", "window-mean", "value", "blur", "noise", "inpaint")

#: What stands behind the names, in one line for the user.
FILLS_HELP = (
    "per channel the image's mean or minimum, the mean of the replaced voxels (window-mean), a "
    "constant (value), the blurred image (blur), Gaussian noise (noise), or a smooth continuation "
    "of the surroundings (inpaint)"
)
