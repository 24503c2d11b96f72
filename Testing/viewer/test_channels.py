"""A classifier of several channels, on images that lie obliquely in the world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from playwright.sync_api import Browser
from scipy.spatial.transform import Rotation

from SaliencyExplain.images.reading import to_image
from SaliencyExplain.models.wrapping import wrap

from .conftest import Server, open_page, start_viewer
from .pages import Page

#: The tests share a running viewer and what earlier ones made in it: one process, in order.
pytestmark = pytest.mark.xdist_group("viewer study")

_NETWORK = '''
import torch
from torch import nn


class Bright(nn.Module):
    """Says "bright" the more, the brighter the second channel's brightest place is."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.1))

    def forward(self, x):
        peak = nn.functional.avg_pool3d(x[:, 1:2], 3, 1).amax(dim=(1, 2, 3, 4))
        score = self.scale * (peak - 50.0)
        return torch.stack([-score, score], dim=1)
'''

#: From the spot to a place in the same slice that means nothing, RAS mm.
AWAY = {
    "axial": np.array([0.0, 30.0, 0.0]),
    "coronal": np.array([-30.0, 0.0, 0.0]),
    "sagittal": np.array([0.0, 30.0, 0.0]),
}

_SPOT_INDEX = (26, 18, 9)


@dataclass(frozen=True)
class Head:
    """Two oblique images of one head, the spot in the second.

    Attributes:
        folder: Where their files and the classifier are.
        image: The one with the spot.
        spot: Its middle, RAS mm.
    """

    folder: Path
    image: MetaTensor

    @property
    def spot(self) -> NDArray[np.float64]:
        return (self.image.affine.numpy() @ [*_SPOT_INDEX, 1.0])[:3]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Head:
    folder = tmp_path_factory.mktemp("channels")
    affine = np.eye(4)
    turned = Rotation.from_euler("xyz", [15, -10, 25], degrees=True).as_matrix()
    affine[:3, :3] = turned @ np.diag([2.0, 2.5, 4.0])
    affine[:3, 3] = [-50.0, -60.0, 20.0]
    shape = (36, 40, 16)
    plain = np.full(shape, 10.0, dtype=np.float32)
    plain[4:-4, 4:-4, 2:-2] = 40.0
    spotted = plain.copy()
    i, j, k = _SPOT_INDEX
    spotted[i - 2 : i + 3, j - 2 : j + 3, k - 1 : k + 2] = 100.0
    for name, values in (("head_FLAIR", spotted), ("head_T1", plain)):
        nibabel.save(nibabel.Nifti1Image(values, affine), folder / f"{name}.nii.gz")
    (folder / "network.py").write_text(_NETWORK)
    weights = {"scale": torch.tensor(0.1)}
    wrap(
        f"{folder / 'network.py'}:Bright",
        weights,
        ["dark", "bright"],
        folder / "bundle",
        channels=["T1", "FLAIR"],
        spatial_dims=3,
        orientation="none",
        trust=True,
    )
    return Head(folder, to_image(spotted[None], affine, name="head"))


@pytest.fixture(scope="module")
def server(head: Head) -> Iterator[Server]:
    # The FLAIR comes first here; its name says which channel it is.
    words = [head.folder / "head_FLAIR.nii.gz", head.folder / "head_T1.nii.gz"]
    found = start_viewer([*words, "--classifier", head.folder / "bundle", "--trust"])
    yield found
    found.stop()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    yield from open_page(browser, server)


def test_channels_are_filled_by_name_and_can_be_changed(page: Page) -> None:
    titles = [row["title"] for row in page.state("volumes_items")]
    named = {row["name"]: titles[row["image"]] for row in page.state("volumes_channels")}
    assert named == {"T1": "head_T1", "FLAIR": "head_FLAIR"}
    page.press(page.button("Predict"))
    page.until("volumes_bars.length === 2 && !volumes_busy")
    assert page.state("volumes_bars")[0]["name"] == "bright"
    assert page.state("volumes_bars")[0]["share"] > 0.99
    chosen = page.state("volumes_channels")
    swapped = [{**row, "image": 1 - row["image"]} for row in chosen]
    page.set("volumes_channels", swapped)
    page.until("volumes_bars.length === 0")
    page.press(page.button("Predict"))
    page.until("volumes_bars.length === 2 && !volumes_busy")
    # Without the spot in its channel nothing is bright.
    assert page.state("volumes_bars")[0]["name"] == "dark"
    page.set("volumes_channels", chosen)
    page.until("volumes_bars.length === 0 && volumes_why === ''")


@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
def test_a_click_in_an_oblique_volume_asks_about_the_place_under_the_mouse(
    page: Page, head: Head, view: str
) -> None:
    page.go_to(head.spot)
    answer = page.ask_at(view, head.spot, head)
    place = page.state("probe_place")
    parts = [part.split() for part in place.removesuffix(" mm").split(", ")]
    asked = [float(value) * (1 if side in "RAS" else -1) for side, value in parts]
    np.testing.assert_allclose(asked, head.spot, atol=1.0)
    before, *without = map(float, answer["bright"])
    assert before > 0.99
    # The ball of 16 mm holds the spot of 10 x 12 x 12 mm.
    assert without[2] < 0.3
    away = page.ask_at(view, head.spot + AWAY[view], head)
    assert float(away["bright"][3]) > 0.95


def test_a_map_of_an_oblique_volume_has_its_peak_at_the_spot(page: Page, head: Head) -> None:
    page.explain(["occlusion"], window_mm=12.0, stride_mm=4.0)
    # A new map brings the slices to its strongest place.
    where = [page.state(f"letters_{name}")["where"] for name in ("Yellow", "Green", "Red")]
    sides = [(1 if text[0] in "RAS" else -1) * float(text.split()[1]) for text in where]
    np.testing.assert_allclose(sides, head.spot, atol=6.0)


def test_the_letters_name_the_sides_of_the_patient_not_of_the_file(page: Page) -> None:
    left = page.view("axial").locator(".se-left").inner_text()
    top = page.view("axial").locator(".se-top").inner_text()
    assert (left, top) == ("R", "A")
