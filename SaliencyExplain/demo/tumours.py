"""The three kinds of mass that a phantom can have, each with its own look and place.

They are called glioma-like and so on because they borrow a textbook's sentence
about such a tumour (where it lies, its margin, its enhancement), and nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.demo.anatomy import (
    BRAIN_CENTRE,
    FLUID,
    INNER_SKULL,
    SELLA_Y,
    Volume,
    brain_depth,
    ellipsoid_depth,
    inside,
    paint,
    surface_radius,
)
from SaliencyExplain.demo.fields import SmoothField

NO_TUMOUR, GLIOMA, MENINGIOMA, PITUITARY = (
    "none",
    "glioma-like",
    "meningioma-like",
    "pituitary-like",
)
CLASSES: tuple[str, ...] = (NO_TUMOUR, GLIOMA, MENINGIOMA, PITUITARY)


@dataclass(frozen=True)
class Tumour:
    """A mass before it is drawn.

    Attributes:
        kind: One of ``CLASSES`` other than ``none``.
        centre: Head coordinates of its middle, in millimetres.
        radius: Mean radius in millimetres.
        seed: Seed of its outline and texture.
    """

    kind: str
    centre: NDArray[np.float64]
    radius: float
    seed: int

    @classmethod
    def random(cls, kind: str, random: np.random.Generator) -> Tumour:
        """A mass of that kind, of random size, at a random place where such a mass lies."""
        place = {GLIOMA: _in_a_hemisphere, MENINGIOMA: _on_the_dura, PITUITARY: _in_the_sella}
        centre, radius = place[kind](random)
        return cls(kind, centre, radius, int(random.integers(2**31)))

    def draw(
        self,
        axes: Sequence[NDArray[np.float64]],
        points: Sequence[Volume],
        brain: Volume,
        signal: Volume,
    ) -> NDArray[np.bool_]:
        """Draws the mass into ``signal``, in place.

        Args:
            axes: World coordinates (mm) of the grid along x, y and z.
            points: The same in head coordinates.
            brain: Depth (mm) below the brain's surface.
            signal: The picture of the head.

        Returns:
            The mask of the mass: all voxels with more than half of them in it. Oedema
            and displaced fluid around it are not part of it.
        """
        random = np.random.default_rng(self.seed)
        draw = {GLIOMA: _draw_glioma, MENINGIOMA: _draw_meningioma, PITUITARY: _draw_pituitary}
        return draw[self.kind](_Canvas(self, random, axes, points, brain, signal))


@dataclass(frozen=True)
class _Canvas:
    """What a mass is drawn with; the fields as in :meth:`Tumour.draw`."""

    tumour: Tumour
    random: np.random.Generator
    axes: Sequence[NDArray[np.float64]]
    points: Sequence[Volume]
    brain: Volume
    signal: Volume

    def texture(self, width: float) -> NDArray[np.float32]:
        """A smooth random field with blobs of a width in mm, on the grid."""
        return SmoothField.blobs(self.random, width).on_grid(self.axes)

    def depth(self, radii: Sequence[float], up: float = 0.0) -> Volume:
        """Depth (mm) in an ellipsoid of these radii, so much above the middle of the mass."""
        centre = self.tumour.centre + np.array([0, 0, up])
        return ellipsoid_depth(self.points, centre.tolist(), list(radii))


def _in_a_hemisphere(random: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """In the white matter, above the tentorium, clear of the midline."""
    radius = random.uniform(16, 22)
    while True:
        side = random.choice([-1.0, 1.0])
        centre = np.array(
            [side * random.uniform(20, 42), random.uniform(-52, 50), random.uniform(-2, 44)]
        )
        depth = brain_depth([np.array([c], np.float32) for c in centre])
        if depth[0] > radius + 3:
            return centre, radius


def _on_the_dura(random: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """On the inner skull of the convexity, its middle a third of its radius below."""
    radius = random.uniform(13, 20)
    while True:
        direction = random.normal(size=3)
        direction /= np.linalg.norm(direction)
        if direction[2] > -0.1:
            return BRAIN_CENTRE + direction * (surface_radius(direction) - 0.35 * radius), radius


def _in_the_sella(random: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """On the midline of the skull's base, growing up into the cistern."""
    radius = random.uniform(9, 13)
    x, y = random.uniform(-2, 2), SELLA_Y + random.uniform(-3, 3)
    floor = BRAIN_CENTRE[2] - surface_radius(np.array([0.0, 0.0, -1.0]))
    return np.array([x, y, floor + 0.6 * radius]), radius


def _draw_glioma(canvas: _Canvas) -> NDArray[np.bool_]:
    """Irregular and heterogeneous: a dark core, a bright ragged rim, oedema around it."""
    random, radius = canvas.random, canvas.tumour.radius
    lobes = canvas.texture(11.0)
    texture = canvas.texture(4.0)
    radii = radius * random.uniform(0.85, 1.15, 3)
    depth = canvas.depth(radii.tolist())
    depth = np.minimum(depth + 0.2 * radius * lobes * (depth > -15), canvas.brain - 1)

    oedema = inside(depth + random.uniform(6, 10), 5.0) * inside(canvas.brain - 5, 3.0)
    paint(canvas.signal, 0.55 * oedema, 0.36)
    rim = random.uniform(5.5, 7.5) + 1.5 * texture
    paint(canvas.signal, inside(depth), random.uniform(0.95, 1.1) + 0.07 * texture)
    paint(canvas.signal, inside(depth - rim, 2.0), random.uniform(0.14, 0.24) + 0.05 * texture)
    return depth > 0


def _draw_meningioma(canvas: _Canvas) -> NDArray[np.bool_]:
    """Smooth, homogeneous and bright, flat on the skull, with a cleft of fluid to the brain."""
    random, radius = canvas.random, canvas.tumour.radius
    lobes = canvas.texture(16.0)
    radii = radius * random.uniform(0.9, 1.1, 3)
    depth = canvas.depth(radii.tolist()) + 0.7 * lobes
    depth = np.minimum(depth, canvas.brain + INNER_SKULL)

    cleft = np.minimum(depth + 2.5, canvas.brain + INNER_SKULL)
    paint(canvas.signal, inside(cleft), FLUID)
    paint(canvas.signal, inside(depth), random.uniform(0.88, 1.0) + 0.015 * lobes)
    return depth > 0


def _draw_pituitary(canvas: _Canvas) -> NDArray[np.bool_]:
    """Round, well defined, moderately bright, rising from the sella into the cistern."""
    random, radius = canvas.random, canvas.tumour.radius
    texture = canvas.texture(5.0)
    below = canvas.depth([radius * 1.05] * 3)
    above = canvas.depth([radius * 0.8] * 3, up=0.75 * radius)
    depth = np.maximum(below, above)

    paint(canvas.signal, inside(depth + np.float32(2)), FLUID)
    paint(canvas.signal, inside(depth), random.uniform(0.74, 0.86) + 0.03 * texture)
    return depth > 0
