"""Pictures of a map over its anatomy: PNG files and small JPEGs for web pages."""

from SaliencyExplain.pictures.drawing import draw_planes
from SaliencyExplain.pictures.notebook_picture import Picture
from SaliencyExplain.pictures.thumbnail import to_jpeg

__all__ = ["Picture", "draw_planes", "to_jpeg"]
