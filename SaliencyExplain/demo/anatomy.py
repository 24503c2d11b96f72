"""The anatomy of a head-like phantom: a contrast-enhanced T1 look, drawn in millimetres.

Nothing here is a model of a patient: shapes are ellipsoids bent and folded by
random fields. It is as much head as a small classifier and a reader need to
know what is inside and outside, left and right, deep and superficial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from SaliencyExplain.demo.fields import SmoothField

Volume = NDArray[np.float32]

#: Signal of each tissue, white matter of a normal brain being about 0.65.
AIR, BONE, FLUID, MUSCLE, GREY, WHITE, FAT = 0.0, 0.05, 0.14, 0.40, 0.46, 0.66, 0.68

#: Thickness of fluid, bone and scalp around the brain, in millimetres.
FLUID_GAP, BONE_THICKNESS, SCALP_THICKNESS = 2.0, 6.0, 5.0
INNER_SKULL = FLUID_GAP
OUTER_SKIN = FLUID_GAP + BONE_THICKNESS + SCALP_THICKNESS

BRAIN_CENTRE = np.array([0.0, -4.0, 8.0])
_EXPONENT = 2.3  # a superellipsoid: the flanks and the base are flatter than an ellipsoid's
_RADII_ABOVE, _RADIUS_BELOW = np.array([61.0, 77.0, 58.0]), 48.0

#: Where the pituitary gland lies, on the midline of the skull's base, along y.
SELLA_Y = 14.0


@dataclass(frozen=True)
class Head:
    """The size, shape and pose of one head.

    Head coordinates are millimetres, RAS: x to the right, y to the front, z up,
    before the pose is applied.

    Attributes:
        scale: Size along x, y and z; 1 is an average head.
        rotation: Rotation of the head in the scanner, 3x3.
        centre: World coordinates of the head's origin.
        seed: Seed of its folds and textures.
    """

    scale: NDArray[np.float64]
    rotation: NDArray[np.float64]
    centre: NDArray[np.float64]
    seed: int

    @classmethod
    def random(cls, random: np.random.Generator) -> Head:
        """A head of random size (±6 %), tilted by up to 7° and shifted by up to 4 mm."""
        a, b, c = np.radians(random.uniform(-7, 7, 3))
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        return cls(
            scale=random.uniform(0.94, 1.06, 3),
            rotation=about_z @ about_y @ about_x,
            centre=random.uniform(-4, 4, 3) + np.array([0, 0, -8.0]),
            seed=int(random.integers(2**31)),
        )

    def to_world(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        """World coordinates (mm) of a point in head coordinates (mm)."""
        return self.rotation @ (point * self.scale) + self.centre

    def coordinates(self, axes: Sequence[NDArray[np.float64]]) -> list[Volume]:
        """Head coordinates x, y and z (mm) of all points of a grid of world coordinates."""
        x, y, z = (axis - origin for axis, origin in zip(axes, self.centre, strict=True))
        inverse = self.rotation.T / self.scale[:, None]
        return [
            (row[0] * x[:, None, None] + row[1] * y[:, None] + row[2] * z).astype(np.float32)
            for row in inverse
        ]


def surface_radius(direction: NDArray[np.float64]) -> float:
    """Distance (mm) from the brain's centre to its surface along a unit vector."""
    radii = _RADII_ABOVE.copy()
    if direction[2] < 0:
        radii[2] = _RADIUS_BELOW
    return float(np.sum(np.abs(direction / radii) ** _EXPONENT) ** (-1 / _EXPONENT))


def brain_depth(points: Sequence[Volume]) -> Volume:
    """Depth (mm) below the brain's surface, to first order; negative outside."""
    x, y, z = (p - np.float32(c) for p, c in zip(points, BRAIN_CENTRE, strict=True))
    radius_z = np.where(z < 0, np.float32(_RADIUS_BELOW), np.float32(_RADII_ABOVE[2]))
    parts = [np.abs(x) / _RADII_ABOVE[0], np.abs(y) / _RADII_ABOVE[1], np.abs(z) / radius_z]
    powers = [(part + 1e-6).astype(np.float32) ** np.float32(_EXPONENT) for part in parts]
    level = (powers[0] + powers[1] + powers[2]) ** np.float32(1 / _EXPONENT)
    squares = (
        (powers[0] / (parts[0] + 1e-6) / _RADII_ABOVE[0]) ** 2
        + (powers[1] / (parts[1] + 1e-6) / _RADII_ABOVE[1]) ** 2
        + (powers[2] / (parts[2] + 1e-6) / radius_z) ** 2
    )
    slope = np.sqrt(squares) * level ** np.float32(1 - _EXPONENT)
    return ((1 - level) / np.maximum(slope, 1e-2)).astype(np.float32)


def ellipsoid_depth(
    points: Sequence[Volume], centre: Sequence[float], radii: Sequence[float]
) -> Volume:
    """Depth (mm) below an ellipsoid's surface, to first order; negative outside."""
    scaled = [
        (p - np.float32(c)) / np.float32(r) for p, c, r in zip(points, centre, radii, strict=True)
    ]
    level = np.sqrt(sum(s**2 for s in scaled) + np.float32(1e-6))
    slope = np.sqrt(sum((s / np.float32(r)) ** 2 for s, r in zip(scaled, radii, strict=True)))
    return (1 - level) * level / np.maximum(slope, 1e-3)


def inside(depth: Volume, softness: float = 1.5) -> Volume:
    """Share of a voxel that is inside, from its depth: a ramp ``softness`` mm wide."""
    return np.clip(depth / np.float32(softness) + np.float32(0.5), 0, 1)


def paint(signal: Volume, share: Volume, value: float | Volume) -> None:
    """Mixes a tissue's signal into the picture, in place."""
    signal += share * (value - signal)


def draw_head(
    head: Head, axes: Sequence[NDArray[np.float64]], points: Sequence[Volume]
) -> tuple[Volume, Volume]:
    """Draws a healthy head.

    Args:
        head: Whose head.
        axes: World coordinates (mm) of the grid along x, y and z.
        points: The same in head coordinates, ``head.coordinates(axes)``.

    Returns:
        The signal, and the depth (mm) below the brain's surface, both ``(X, Y, Z)``.
    """
    random = np.random.default_rng(head.seed)
    texture = SmoothField.blobs(random, 6.0).on_grid(axes)
    outline = SmoothField.blobs(random, 45.0, waves=24).on_grid(axes)
    depth = brain_depth(points) + np.float32(1.5) * outline

    signal = np.zeros(depth.shape, np.float32)
    _draw_face(signal, points, texture)
    paint(signal, inside(depth + OUTER_SKIN), FAT * (1 + 0.08 * texture))
    paint(signal, inside(depth + FLUID_GAP + BONE_THICKNESS), BONE)
    # The diploe: a thin line of marrow between the two tables of the skull.
    marrow = np.abs(depth + FLUID_GAP + BONE_THICKNESS / 2)
    paint(signal, inside(np.float32(1.0) - marrow) * 0.5, FAT * 0.6)
    paint(signal, inside(depth + FLUID_GAP), FLUID)

    brain, ventricles = _brain_signal(random, axes, points, depth, texture)
    paint(signal, inside(depth), brain)
    stem = ellipsoid_depth(points, (0, -22, -62), (13, 12, 50))
    paint(signal, inside(stem + 4) * inside(-points[2] - 18), FLUID)
    paint(signal, inside(stem) * inside(-points[2] - 12), WHITE * (1 + 0.03 * texture))
    paint(signal, inside(ventricles), FLUID)
    return signal, depth


def _draw_face(signal: Volume, points: Sequence[Volume], texture: Volume) -> None:
    """Soft tissue below the brain case: face and neck, with air spaces and eyes."""
    face = ellipsoid_depth(points, (0, 30, -56), (56, 62, 64))
    nose = ellipsoid_depth(points, (0, 88, -64), (10, 13, 17))
    neck = ellipsoid_depth(points, (0, -26, -92), (50, 50, 74))
    soft = np.maximum(np.maximum(face, nose), neck)
    paint(signal, inside(soft), FAT)
    paint(signal, inside(soft - 5), MUSCLE * (1 + 0.2 * texture))
    paint(signal, inside(ellipsoid_depth(points, (0, 52, -66), (17, 26, 20))), AIR + 0.04)
    paint(signal, inside(ellipsoid_depth(points, (0, 30, -52), (11, 10, 7))), AIR + 0.04)
    mirrored = [np.abs(points[0]), points[1], points[2]]
    paint(signal, inside(ellipsoid_depth(mirrored, (30, 60, -38), (15, 17, 14))), FAT)
    paint(signal, inside(ellipsoid_depth(mirrored, (30, 65, -38), (11, 11, 11))), FLUID)


def _brain_signal(
    random: np.random.Generator,
    axes: Sequence[NDArray[np.float64]],
    points: Sequence[Volume],
    depth: Volume,
    texture: Volume,
) -> tuple[Volume, Volume]:
    """Signal of the brain as if it filled the grid, and the depth inside the ventricles."""
    x, y, z = points
    folds = SmoothField.folds(random, 24.0).on_grid(axes)
    size = np.float32(random.uniform(0.85, 1.25))  # of the ventricles

    brain = np.full(depth.shape, WHITE, np.float32)
    # The cortex follows the folds: thick on the crowns, thin in the depths.
    paint(brain, inside(6 + 5 * np.abs(folds) - depth, 2.0), GREY)
    sulcus = np.minimum(2.4 * (0.45 - np.abs(folds)), 0.25 * (17 - depth))
    paint(brain, inside(-np.abs(-3.0 - sulcus * 4) + 3.0, 2.0) * inside(18 - depth), GREY)
    paint(brain, inside(sulcus * 2 - 0.6, 1.0), FLUID)

    mirrored = [np.abs(x), y, z]
    for centre, radii in (((14, -10, 8), (8, 14, 8)), ((24, 8, 8), (6, 16, 9))):
        paint(brain, inside(ellipsoid_depth(mirrored, centre, radii), 3.0), GREY * 1.05)

    fissure = np.minimum(1.3 - np.abs(x), 30 - depth)
    paint(brain, inside(np.minimum(fissure, z - 8)), FLUID)
    sylvian = ellipsoid_depth([np.abs(x), y, z - 0.25 * (y - 10)], (58, 8, -6), (22, 26, 2.5))
    paint(brain, inside(sylvian), FLUID)
    cistern = ellipsoid_depth(points, (0, SELLA_Y - 8, -38), (17, 14, 9))
    paint(brain, inside(cistern), FLUID)

    cerebellum = ellipsoid_depth(points, (0, -48, -32), (46, 30, 22))
    leaves = SmoothField.folds(random, 9.0).on_grid(axes)
    paint(brain, inside(cerebellum + 2.5), FLUID)
    paint(brain, inside(cerebellum), GREY)
    paint(brain, inside(cerebellum - 5) * (0.4 + 0.3 * (leaves > 0)), WHITE)
    brain *= 1 + 0.035 * texture

    bent = [np.abs(x) - 0.004 * (y + 5) ** 2, y, z]
    ventricles = ellipsoid_depth(bent, (10, -8, 16), (6.5 * size, 36, 8 * size))
    ventricles = np.maximum(ventricles, ellipsoid_depth(points, (0, -4, 3), (2.2, 13, 9)))
    ventricles = np.maximum(ventricles, ellipsoid_depth(points, (0, -36, -30), (5, 5, 8)))
    return brain, ventricles
