"""Small copies of pictures, for pages that hold many."""

from __future__ import annotations

import io

from PIL import Image

#: Of the JPEG, 1 to 95.
_QUALITY = 80


def to_jpeg(png: bytes, width: int) -> bytes:
    """Makes a JPEG of a PNG with a limited width.

    Args:
        png: The PNG file's bytes.
        width: Largest width in pixels; a narrower picture is not enlarged.

    Returns:
        The JPEG file's bytes, without metadata.
    """
    with Image.open(io.BytesIO(png), formats=("PNG",)) as picture:
        color = picture.convert("RGB")
    if color.width > width:
        height = max(1, round(color.height * width / color.width))
        color = color.resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # Chroma at full resolution (subsampling 0): outlines a pixel wide keep their colour.
    color.save(buffer, format="JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return buffer.getvalue()
