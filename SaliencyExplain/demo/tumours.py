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
        return draw[self.kind](self, random, axes, points, brain, signal)


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


def _draw_glioma(
    tumour: Tumour,
    random: np.random.Generator,
    axes: Sequence[NDArray[np.float64]],
    points: Sequence[Volume],
    brain: Volume,
    signal: Volume,
) -> NDArray[np.bool_]:
    """Irregular and heterogeneous: a dark core, a bright ragged rim, oedema around it."""
    lobes = SmoothField.blobs(random, 11.0).on_grid(axes)
    texture = SmoothField.blobs(random, 4.0).on_grid(axes)
    radii = tumour.radius * random.uniform(0.85, 1.15, 3)
    depth = ellipsoid_depth(points, tumour.centre.tolist(), radii.tolist())
    depth = np.minimum(depth + 0.2 * tumour.radius * lobes * (depth > -15), brain - 1)

    oedema = inside(depth + random.uniform(6, 10), 5.0) * inside(brain - 5, 3.0)
    paint(signal, 0.55 * oedema, 0.36)
    rim = random.uniform(5.5, 7.5) + 1.5 * texture
    paint(signal, inside(depth), random.uniform(0.95, 1.1) + 0.07 * texture)
    paint(signal, inside(depth - rim, 2.0), random.uniform(0.14, 0.24) + 0.05 * texture)
    return depth > 0


def _draw_meningioma(
    tumour: Tumour,
    random: np.random.Generator,
    axes: Sequence[NDArray[np.float64]],
    points: Sequence[Volume],
    brain: Volume,
    signal: Volume,
) -> NDArray[np.bool_]:
    """Smooth, homogeneous and bright, flat on the skull, with a cleft of fluid to the brain."""
    lobes = SmoothField.blobs(random, 16.0).on_grid(axes)
    radii = tumour.radius * random.uniform(0.9, 1.1, 3)
    depth = ellipsoid_depth(points, tumour.centre.tolist(), radii.tolist()) + 0.7 * lobes
    depth = np.minimum(depth, brain + INNER_SKULL)

    cleft = np.minimum(depth + 2.5, brain + INNER_SKULL)
    paint(signal, inside(cleft), FLUID)
    paint(signal, inside(depth), random.uniform(0.88, 1.0) + 0.015 * lobes)
    return depth > 0


def _draw_pituitary(
    tumour: Tumour,
    random: np.random.Generator,
    axes: Sequence[NDArray[np.float64]],
    points: Sequence[Volume],
    brain: Volume,
    signal: Volume,
) -> NDArray[np.bool_]:
    """Round, well defined, moderately bright, rising from the sella into the cistern."""
    texture = SmoothField.blobs(random, 5.0).on_grid(axes)
    below = ellipsoid_depth(points, tumour.centre.tolist(), [tumour.radius * 1.05] * 3)
    top = tumour.centre + np.array([0, 0, 0.75 * tumour.radius])
    above = ellipsoid_depth(points, top.tolist(), [tumour.radius * 0.8] * 3)
    depth = np.maximum(below, above)

    paint(signal, inside(depth + np.float32(2)), FLUID)
    paint(signal, inside(depth), random.uniform(0.74, 0.86) + 0.03 * texture)
    return depth > 0
