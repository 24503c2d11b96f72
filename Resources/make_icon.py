"""Makes the extension's icon: ``python Resources/make_icon.py``.

A head in axial view, nose up, with one hot spot in the colours of the maps. Thick lines and one
spot, because Slicer shows it at 24 pixels in the module list as well as at 128 in the catalog.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from SaliencyExplain.colormaps import color_table

#: Where Slicer looks for a module's icon, and where the extension's description points to.
ICON = (
    Path(__file__).parents[1]
    / "scripted_module"
    / "Resources"
    / "Icons"
    / "SlicerSaliencyExplain.png"
)
SIDE = 256
#: Drawn so many times larger and then made smaller: smooth edges.
_LARGER = 4

_OUTLINE = (92, 120, 140, 255)
_HEAD = (236, 241, 244, 255)
_BRAIN = (203, 215, 223, 255)
#: Centre and radius of the spot as shares of the side.
_SPOT, _SPOT_RADIUS = (0.615, 0.43), 0.175


def icon() -> Image.Image:
    """The icon, RGBA, ``SIDE`` pixels wide and high, on a transparent ground."""
    side = SIDE * _LARGER
    picture = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    line = round(0.055 * side)

    def box(left: float, top: float, right: float, bottom: float) -> list[float]:
        return [left * side, top * side, right * side, bottom * side]

    nose = [(0.40 * side, 0.14 * side), (0.50 * side, 0.015 * side), (0.60 * side, 0.14 * side)]
    for ear in (box(0.055, 0.44, 0.2, 0.66), box(0.8, 0.44, 0.945, 0.66)):
        draw.ellipse(ear, fill=_OUTLINE)
    draw.polygon(nose, fill=_OUTLINE)
    draw.ellipse(box(0.12, 0.07, 0.88, 0.985), fill=_HEAD, outline=_OUTLINE, width=line)
    draw.ellipse(box(0.23, 0.19, 0.77, 0.88), fill=_BRAIN)
    draw.line([(0.5 * side, 0.21 * side), (0.5 * side, 0.86 * side)], fill=_HEAD, width=line // 3)
    picture.alpha_composite(_spot(side))
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _spot(side: int) -> Image.Image:
    """A spot that is hottest in its middle, with a soft edge."""
    rows, columns = np.indices((side, side)) / side
    apart = np.hypot(columns - _SPOT[0], rows - _SPOT[1]) / _SPOT_RADIUS
    colors = color_table(signed=False)
    heat = np.clip(1.05 - 0.75 * apart, 0, 1)
    pixels = np.empty((side, side, 4), np.uint8)
    pixels[..., :3] = np.round(255 * colors[np.round(heat * (len(colors) - 1)).astype(int)])
    pixels[..., 3] = np.round(255 * np.clip((1 - apart) / 0.12, 0, 1))
    return Image.fromarray(pixels, "RGBA")


if __name__ == "__main__":
    ICON.parent.mkdir(parents=True, exist_ok=True)
    icon().save(ICON, optimize=True)
