from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121, resnet18
from monai.visualize import OcclusionSensitivity

from SaliencyExplain.attribution.methods.occlusion import Occlusion
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.attribution.perturbation.infill import infill_of
from SaliencyExplain.attribution.perturbation.occlusion_windows import interpolation_between_windows
from SaliencyExplain.attribution.separable import along_axes, coverage_matrix
from SaliencyExplain.errors import ErrorCode, InputError
from Testing.expected_errors import error_with


def drops_of(values, windows):
    """The windows' own values: the map at their centres, which are voxels of odd windows."""
    assert all(width % 2 for width in windows.window)
    centres = [np.asarray(s) + w // 2 for s, w in zip(windows.starts, windows.window, strict=True)]
    return values[np.ix_(*centres)]


def mean_over_windows(drops, windows, shape):
    """As MONAI makes a map: the mean of the windows that cover a voxel."""
    axes = zip(shape, windows.window, windows.starts, strict=True)
    covers = [coverage_matrix(size, width, starts) for size, width, starts in axes]
    means = [matrix / matrix.sum(1, keepdim=True) for matrix in covers]
    return along_axes(drops.double(), means).float()


@pytest.mark.parametrize(
    ("shape", "spacing", "place"),
    [((20, 17), (1.0, 2.0), (9, 5)), ((14, 15, 9), (1.0, 1.0, 3.0), (6, 8, 4))],
)
def test_one_voxel_detector_is_seen_by_the_windows_over_it(task, detector, shape, spacing, place):
    image = torch.ones(1, 1, *shape)
    image[(0, 0, *place)] = 5.0
    method = Occlusion(window_mm=6.0, stride_mm=1.0, fill="value", value=2.0)
    values = method.attribute(task(detector(shape, place), image, spacing=spacing))[""].numpy()
    expected = np.float64(3.0)
    for axis, (size, centre, voxel) in enumerate(zip(shape, place, spacing, strict=True)):
        # Windows whose centre is within half a window of the voxel cover it, one voxel
        # farther none does; beyond the end windows' centres the map is constant.
        half = (round(6 / voxel) - 1) / 2
        at = np.arange(size).clip(half, size - 1 - half)
        factor = (half + 1 - abs(at - centre)).clip(0, 1)
        expected = expected * factor.reshape([-1 if axis == a else 1 for a in range(len(shape))])
    np.testing.assert_allclose(values, expected, atol=1e-6)


def smooth_evidence(centre, width=20.0):
    """A network whose score is the image under a wide Gaussian along the first axis."""

    class Smooth(torch.nn.Module):
        def forward(self, images):
            place = torch.arange(images.shape[2]) - centre
            weight = torch.exp(-((place / width) ** 2) / 2)
            score = (images.flatten(3).mean((1, 3)) * weight).mean(1)
            return torch.stack([-score, score], 1)

    return Smooth()


@pytest.mark.parametrize(
    ("shape", "spacing", "settings"),
    [
        ((218, 30), (1.0, 1.0), {}),
        ((218, 30), (1.0, 1.0), {"window_mm": 27.0}),
        ((218, 30), (1.0, 1.0), {"window_mm": 27.0, "stride_mm": 10.0}),
        ((218, 30), (1.0, 1.0), {"window_mm": 16.0, "stride_mm": 15.0}),
        ((109, 20, 5), (2.0, 2.2, 5.0), {}),
    ],
)
@pytest.mark.parametrize("centre", [97.0, 125.0])
def test_smooth_evidence_gives_a_map_without_seams_and_its_peak(
    task, shape, spacing, settings, centre
):
    network = smooth_evidence(centre / spacing[0], 20 / spacing[0])
    job = task(network, torch.ones(1, 1, *shape), spacing=spacing)
    method = Occlusion(fill="value", output="score", **settings)
    values = method.attribute(job)[""].double()
    line = values[(slice(None), *(n // 2 for n in shape[1:]))]
    # Along the other axes nothing changes: all windows cover as much.
    torch.testing.assert_close(values, line.reshape(-1, *[1] * (len(shape) - 1)).expand(shape))
    steps = line.diff() / line.max()
    assert (line[1:-1] - torch.maximum(line[:-2], line[2:])).max() < 0.02 * line.max()
    assert steps.abs().max() < 0.06
    peak = int(line.argmax())
    assert abs(peak * spacing[0] - centre) <= method.resolved(job).stride_mm
    # It rises to the peak and falls behind it: nowhere is a seam between windows.
    assert steps[:peak].min() > -0.003
    assert steps[peak:].max() < 0.003


@pytest.mark.parametrize("window", [4, 5])
def test_windows_that_do_not_overlap_are_tiles_of_their_own_drop(task, linear, window):
    weights = torch.randn(1, 22, 20)
    image = torch.randn(1, 1, 22, 20)
    settings = {"window_mm": float(window), "stride_mm": float(window)}
    method = Occlusion(fill="value", output="score", **settings)
    values = method.attribute(task(linear(weights), image))[""]
    evidence = (weights * image)[0, 0]
    for i in range(0, 22 - window, window):
        for j in range(0, 20, window):
            expected = evidence[i : i + window, j : j + window].sum()
            assert values[i, j] == pytest.approx(float(expected), abs=1e-4)
            if i + window <= 22 - window:
                assert (values[i : i + window, j : j + window] == values[i, j]).all()


@pytest.mark.parametrize("size", [1, 2, 5, 23])
@pytest.mark.parametrize(("window", "step"), [(1, 1), (2, 1), (7, 3), (9, 9), (23, 4)])
def test_weights_of_windows_sum_to_one_and_favour_no_place(size, window, step):
    window = min(size, window)
    starts = (*range(0, size - window, step), size - window)
    weights = interpolation_between_windows(size, window, starts)
    assert weights.shape == (size, len(starts))
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(1), torch.ones(size).double())
    torch.testing.assert_close(weights[0], torch.eye(len(starts)).double()[0])
    torch.testing.assert_close(weights[-1], torch.eye(len(starts)).double()[-1])


def test_positive_means_that_the_place_speaks_for_the_class(task):
    class Brightness(torch.nn.Module):
        def forward(self, images):
            score = images.flatten(1).mean(1)
            return torch.stack([-score, score], dim=1)

    image = torch.zeros(1, 1, 16, 16)
    image[..., 4:8, 4:8] = 9.0
    method = Occlusion(window_mm=4.0, stride_mm=2.0, fill="minimum")
    bright, dark = (method.attribute(task(Brightness(), image, target))[""] for target in (1, 0))
    assert bright[5, 5] > 0 > dark[5, 5]
    torch.testing.assert_close(bright, -dark)


def test_boxes_that_replace_nothing_cost_nothing_and_are_zero(task):
    seen = []

    class Mean(torch.nn.Module):
        def forward(self, images):
            seen.append(len(images))
            score = images.flatten(1).mean(1)
            return torch.stack([-score, score], dim=1)

    image = torch.zeros(1, 1, 24, 24)
    image[..., 8:12, 8:12] = torch.rand(4, 4) + 1
    job = task(Mean(), image)
    method = Occlusion(window_mm=4.0, stride_mm=4.0, fill="minimum")
    values = method.attribute(job)[""]
    assert sum(seen) == method.forward_passes(job) == 2
    assert (values[8:12, 8:12] > 0).all()
    assert values.count_nonzero() == 16


@pytest.mark.parametrize("stride", [3.0, 4.0, 5.0])
def test_each_voxel_is_covered_and_no_box_reaches_outside(stride):
    windows = Occlusion(window_mm=5.0, stride_mm=stride).windows((16, 11, 7), (1.0, 1.0, 2.5))
    hits = np.zeros((16, 11, 7), dtype=int)
    for place in windows.places():
        assert all(s.start >= 0 for s in place)
        assert all(s.stop <= n for s, n in zip(place, hits.shape, strict=True))
        hits[place] += 1
    assert hits.min() >= 1
    assert windows.window == (5, 5, 2)


def test_window_is_the_same_size_in_millimetres_on_every_axis():
    windows = Occlusion(window_mm=12.0, stride_mm=6.0).windows((64, 64, 20), (1.0, 2.0, 4.0))
    assert windows.window == (12, 6, 3)
    assert [starts[1] for starts in windows.starts] == [6, 3, 2]


def test_default_window_is_an_eighth_of_the_longest_side_and_covers_all_of_a_few_slices():
    assert Occlusion().windows((128, 96), (1.5, 1.5)).window == (16, 16)
    assert Occlusion().windows((160, 160, 3), (1.0, 1.0, 5.0)).window == (20, 20, 3)
    assert Occlusion().windows((96, 96, 1), (1.0, 1.0, 3.0)).window == (12, 12, 1)
    assert Occlusion().windows((400, 20), (1.0, 1.0)).window == (20, 20)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((182, 218, 182), (1.0, 1.0, 1.0)),
        ((240, 240, 155), (1.0, 1.0, 1.0)),
        ((256, 256, 30), (0.9375, 0.9375, 5.0)),
        ((512, 512, 24), (0.45, 0.45, 6.0)),
        ((60, 30, 9), (2.0, 2.2, 3.1)),
        ((218, 181), (1.0, 1.3)),
        ((8, 8), (1.0, 1.0)),
    ],
)
def test_default_window_is_twice_the_stride_on_the_grid(task, linear, shape, spacing):
    method = Occlusion()
    windows = method.windows(shape, spacing)
    for size, width, starts in zip(shape, windows.window, windows.starts, strict=True):
        if len(starts) > 2:
            assert set(np.diff(starts)[:-1]) == {width // 2}
        assert width % 2 == 0 or width == size
    longest = max(n * voxel for n, voxel in zip(shape, spacing, strict=True))
    resolved = method.resolved(
        task(linear(torch.zeros(1, 2, 2)), torch.zeros(1, 1, *shape), spacing=spacing)
    )
    assert 0.7 <= resolved.window_mm / (longest / 8) <= 1.4 or resolved.window_mm == 2
    # What the file says of the map gives the same windows again.
    assert resolved.windows(shape, spacing) == windows


def test_a_window_thicker_than_the_slices_of_a_volume_covers_all_of_them(task, linear):
    weights = torch.randn(1, 12, 12, 3)
    image = torch.randn(1, 1, 12, 12, 3)
    method = Occlusion(window_mm=4.0, stride_mm=4.0, fill="value", output="score")
    notes = []
    values = method.attribute(task(linear(weights), image, note=notes.append))[""]
    assert len(notes) == 1
    assert "3 slices" in notes[0]
    expected = (weights * image)[0, 0, 4:8, :4].sum()
    torch.testing.assert_close(values[4:8, :4], expected.expand(4, 4, 3), atol=1e-4, rtol=0)
    with pytest.raises(InputError) as error:
        method.windows((12, 3, 3), (1.0, 1.0, 1.0))
    assert error.value.code is ErrorCode.WINDOW


def test_image_smaller_than_the_window_is_refused(task, detector):
    job = task(detector((8, 8), (1, 1)), torch.rand(1, 1, 8, 8), spacing=(1.0, 2.0))
    with error_with(ErrorCode.WINDOW, "occlusion.window_mm", "10 mm", "8 x 16 mm"):
        Occlusion(window_mm=10.0).attribute(job)


def test_stride_that_would_leave_gaps_is_refused():
    with error_with(ErrorCode.VALUE_RANGE, "occlusion.stride_mm", "5 mm", "4 mm"):
        Occlusion(window_mm=4.0, stride_mm=5.0).windows((20, 20), (1.0, 1.0))


def test_fill_is_taken_for_each_channel(task, linear):
    image = torch.stack([torch.rand(6, 6), torch.rand(6, 6) * 10 + 100])[None]
    weights = torch.zeros(2, 6, 6)
    weights[1, 2, 2] = 1.0
    job = task(linear(weights), image)
    for fill, expected in (
        ("mean", image[0, 1].mean()),
        ("minimum", image[0, 1].min()),
        ("window-mean", image[0, 1, 2, 2]),
    ):
        values = Occlusion(window_mm=1.0, fill=fill, output="score").attribute(job)[""]
        assert values[2, 2] == pytest.approx(float(image[0, 1, 2, 2] - expected), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["densenet", "resnet"])
@pytest.mark.parametrize("fill", ["value", "mean"])
def test_equals_monai_window_by_window(task, dims, name, fill):
    # Not against MONAI's "mean_patch" (which multiplies by the mean: factor and addend change
    # places there) nor "gaussian" (a soft window, which ours has not).
    if dims == 3 and fill != "value":
        pytest.skip("the fills differ in the image alone; one of them is enough in 3D")
    if name == "densenet":
        network = DenseNet121(spatial_dims=dims, in_channels=1, out_channels=3)
    else:
        network = resnet18(spatial_dims=dims, n_input_channels=1, num_classes=3)
    image = torch.randn(1, 1, *(41, 33, 34)[:dims])
    # MONAI's stride is int(window (1 - overlap)) = 10 of 23, which divides none of the sides.
    ours = Occlusion(window_mm=23.0, stride_mm=10.0, fill=fill, value=0.3)
    values = ours.attribute(task(network, image, 2, batch_size=4))[""]
    windows = ours.windows(values.shape, (1.0,) * dims)
    drop = mean_over_windows(drops_of(values, windows), windows, values.shape)
    modes = {"value": 0.3, "mean": "mean_img"}
    theirs, _ = OcclusionSensitivity(
        network.eval(),
        mask_size=23,
        n_batch=4,
        mode=modes[fill],
        overlap=0.55,
        activate=lambda scores: scores.softmax(1),
        verbose=False,
    )(image)
    with torch.no_grad():
        original = network(image).softmax(1)[0, 2]
    torch.testing.assert_close(original - drop, theirs[0, 2].as_tensor(), rtol=1e-5, atol=1e-7)
    assert drop.abs().max() > 1e-5


#: What MONAI puts into a window, so that the network can tell where it is.
MARK = 12345.0


class Filled(torch.nn.Module):
    """Puts something else where MONAI has put the mark (its own callable mode always raises)."""

    def __init__(self, network, image, infill, channel):
        super().__init__()
        self.network, self.image, self.infill, self.channel = network, image, infill, channel

    def forward(self, images):
        images = torch.as_tensor(images).clone()
        for one in images:
            marked = one == MARK
            corner = torch.nonzero(marked[0])[0].numpy()
            window = tuple(int(n) for n in torch.nonzero(marked[0])[-1].numpy() - corner + 1)
            content = self.infill.boxes(corner[None], window)[0].flatten()
            one[marked] = content
            if self.channel is not None:
                others = torch.arange(len(one)) != self.channel
                one[others] = self.image[0][others]
        return self.network(images)


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("fill", ["window-mean", "blur", "noise", "inpaint"])
def test_other_infills_and_single_channels_equal_monai_with_that_content(task, dims, fill):
    network = resnet18(spatial_dims=dims, n_input_channels=2, num_classes=3)
    image = torch.randn(1, 2, *(27, 22, 20)[:dims])
    job = task(network, image, 2, batch_size=4, seed=5, channels=("T1", "FLAIR"))
    content = infill_of(image, fill, job.spacing, seed=5)
    with torch.no_grad():
        original = network(image).softmax(1)[0, 2]
    found = {}
    for channel in ("all", "each"):
        method = Occlusion(window_mm=15.0, stride_mm=7.0, fill=fill, channel=channel)
        found |= method.attribute(job)
    shape = tuple(image.shape[2:])
    windows = method.windows(shape, job.spacing)
    assert list(found) == ["", "T1", "FLAIR"]
    for key, number in (("", None), ("T1", 0), ("FLAIR", 1)):
        theirs, _ = OcclusionSensitivity(
            Filled(network, image, content, number).eval(),
            mask_size=15,
            n_batch=4,
            mode=MARK,
            overlap=0.5,
            activate=lambda scores: scores.softmax(1),
            verbose=False,
        )(image)
        drop = mean_over_windows(drops_of(found[key], windows), windows, shape)
        torch.testing.assert_close(original - drop, theirs[0, 2].as_tensor(), rtol=1e-5, atol=1e-6)
        assert found[key].abs().max() > 1e-5


def test_one_channel_by_its_name_is_that_of_each_and_an_unknown_one_is_refused(task, linear):
    weights = torch.randn(3, 12, 10)
    image = torch.randn(1, 3, 12, 10)
    job = task(linear(weights), image, channels=("CT", "PET", "MR"))
    settings = {"window_mm": 2.0, "stride_mm": 2.0, "fill": "value", "output": "score"}
    each = Occlusion(channel="each", **settings).attribute(job)
    together = Occlusion(**settings).attribute(job)[""]
    torch.testing.assert_close(sum(each.values()), together, rtol=1e-4, atol=1e-4)
    alone = Occlusion(channel="PET", **settings).attribute(job)
    assert list(alone) == ["PET"]
    torch.testing.assert_close(alone["PET"], each["PET"], rtol=0, atol=1e-6)
    expected = (weights[1] * image[0, 1]).unfold(0, 2, 2).unfold(1, 2, 2).sum((-1, -2))
    torch.testing.assert_close(alone["PET"][::2, ::2], expected, rtol=1e-4, atol=1e-4)
    with error_with(ErrorCode.NAME_UNKNOWN, "'pet'", "'PET'"):
        Occlusion(channel="pet", **settings).attribute(job)


@pytest.mark.slow
def test_maps_of_all_channels_grow_together_and_the_cost_is_that_of_all(task):
    network = resnet18(spatial_dims=2, n_input_channels=2, num_classes=2)
    image = torch.randn(1, 2, 48, 40)
    published, told = [], []
    job = task(
        network,
        image,
        publish=lambda maps, share: published.append((sorted(maps), share)),
        progress=lambda done, total: told.append((done, total)),
    )
    method = Occlusion(window_mm=8.0, stride_mm=8.0, channel="each")
    method.attribute(job)
    assert told[-1] == (method.forward_passes(job),) * 2
    assert told[-1][0] == 1 + 2 * 30
    assert all(names == ["1", "2"] for names, _ in published)
    shares = [share for _, share in published]
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize(("activation", "one_logit"), [("sigmoid", False), ("softmax", True)])
def test_watches_the_probability_that_the_activation_gives(task, activation, one_logit):
    outputs = 1 if one_logit else 3
    body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, outputs))
    network = ScoreNetwork(body, activation, one_logit=one_logit)
    image = torch.randn(1, 1, 6, 6)
    values = Occlusion(window_mm=6.0, fill="value").attribute(task(network, image))[""]
    row = -1 if one_logit else 1
    with torch.no_grad():
        expected = body(image)[0, row].sigmoid() - body(torch.zeros_like(image))[0, row].sigmoid()
    torch.testing.assert_close(values, expected.expand(6, 6))


def test_size_of_the_batches_does_not_change_the_map(task):
    network = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2)
    image = torch.randn(1, 1, 32, 32)
    one, many = (
        Occlusion(window_mm=16.0).attribute(task(network, image, batch_size=size))[""]
        for size in (1, 7)
    )
    torch.testing.assert_close(one, many, rtol=0, atol=1e-6)
