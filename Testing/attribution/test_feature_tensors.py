"""Class activation methods look at the tensor that every path to the scores goes through."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from SaliencyExplain.attribution.graph.feature_map_grid import FeatureMap
from SaliencyExplain.attribution.graph.network_structure import analyse
from SaliencyExplain.attribution.methods.cam import CAM, GradCAM
from SaliencyExplain.attribution.methods.layer_sweep import LayerSweep
from SaliencyExplain.attribution.methods.respond_cam import RespondCAM
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.errors import ErrorCode, InputError
from Testing.attribution.spots import (
    METHODS,
    WITHOUT_GUIDED,
    assert_peak_at,
    convolution,
    image_with_spots,
    mean,
)


class Branches(nn.Module):
    """Class 1 is a bright spot; what the branch that runs last sees hardly counts."""

    def __init__(self, dims, late=False):
        super().__init__()
        self.bright = convolution(dims, 1, 1, 3, padding=1, bias=False)
        self.dark = convolution(dims, 1, 1, 3, padding=1, bias=False)
        self.fc = nn.Linear(2, 2, bias=False)
        self.late = late
        self.bright.weight.data.fill_(3.0**-dims)
        self.dark.weight.data.fill_(-(3.0**-dims))
        self.fc.weight.data = torch.tensor([[-1.0, -0.05], [1.0, 0.05]])

    def forward(self, images):
        maps = [self.bright(images), self.dark(images)]
        if self.late:
            pooled = [mean(functional.relu(one)) for one in maps]
            return self.fc(torch.cat(pooled, 1))
        return self.fc(mean(functional.relu(torch.cat(maps, 1))))


@pytest.mark.parametrize("late", [False, True], ids=["before pooling", "behind pooling"])
@pytest.mark.parametrize("shape", [(40, 33), (19, 26, 17)])
@pytest.mark.parametrize("method", METHODS)
def test_parallel_branches_all_count(task, method, shape, late):
    bright, dark = (10, 12, 8)[: len(shape)], tuple(size - 6 for size in shape)
    image = image_with_spots(shape, bright, dark)
    values = next(
        iter(find_method(method)().attribute(task(Branches(len(shape), late), image)).values())
    )
    assert_peak_at(values, bright, 2)


@pytest.mark.parametrize("late", [False, True])
def test_what_is_taken_of_branches_is_told(task, late):
    notes, figures = [], {}
    image = image_with_spots((40, 33), (10, 12))
    job = task(Branches(2, late), image, note=notes.append, record=figures.update)
    GradCAM().attribute(job)
    assert len(notes) == 1
    assert "relu()" in notes[0]
    assert [one["cells"] for one in figures["feature_maps_of"]] == [[40, 33]] * (1 + late)


class ChannelsLast(nn.Module):
    """Patches of 4 voxels, then linear layers with the channels last, as in ConvNeXt or Swin."""

    def __init__(self, dims, back):
        super().__init__()
        self.stem = convolution(dims, 1, 8, 4, stride=4)
        self.fc1, self.act, self.fc2 = nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)
        self.head, self.back = nn.Linear(8, 2), back
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self.stem.weight.fill_(4.0**-dims)
            self.fc1.weight.fill_(1 / 8)
            self.fc2.weight.fill_(1 / 16)
            self.head.weight[1].fill_(1.0)

    def forward(self, images):
        features = self.fc2(self.act(self.fc1(self.stem(images).movedim(1, -1))))
        if self.back:
            return self.head(mean(features.movedim(-1, 1)))
        return self.head(features.flatten(1, -2).mean(1))


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("shape", [(64, 40), (32, 64, 20)])
@pytest.mark.parametrize("method", [*WITHOUT_GUIDED, "cam"])
def test_channels_last_is_seen(task, method, shape, back):
    place = (26, 14, 10)[: len(shape)]
    image = image_with_spots(shape, place)
    job = task(ChannelsLast(len(shape), back), image)
    (values, *_) = find_method(method)().attribute(job).values()
    assert_peak_at(values, place, 4)


def test_a_named_layer_with_the_channels_last_is_seen(task):
    image = image_with_spots((64, 40), (26, 14))
    for layer in ("act", "fc1"):
        values = GradCAM(layers=(layer,)).attribute(task(ChannelsLast(2, False), image))[layer]
        assert_peak_at(values, (26, 14), 4)


class Transformer(nn.Module):
    """Tokens of patches; the class token gathers their mean in each block and is read alone."""

    def __init__(self, dims, pooled=False):
        super().__init__()
        self.patches = convolution(dims, 1, 6, 5, stride=5, bias=False)
        self.token = nn.Parameter(torch.zeros(1, 1, 6))
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(3))
        self.attentions = nn.ModuleList(
            nn.MultiheadAttention(6, 2, batch_first=True, bias=False) for _ in range(2)
        )
        self.mixers = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.head, self.pooled = nn.Linear(6, 2), pooled
        with torch.no_grad():
            self.patches.weight.zero_()
            self.patches.weight[0] = 5.0**-dims
            for attention in self.attentions:
                attention.in_proj_weight.zero_()
                attention.in_proj_weight[12:] = torch.eye(6)
                attention.out_proj.weight.copy_(torch.eye(6))
            self.head.weight.zero_()
            self.head.weight[1, 0] = 1.0

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1)
        for norm, attention, mixer in zip(self.norms, self.attentions, self.mixers, strict=False):
            given = norm(tokens)
            tokens = tokens + attention(given, given, given)[0]
            tokens = tokens + 0.01 * mixer(tokens)
        tokens = self.norms[2](tokens)
        return self.head(tokens[:, 1:].mean(1) if self.pooled else tokens[:, 0])


@pytest.mark.parametrize("pooled", [False, True], ids=["class token", "mean"])
@pytest.mark.parametrize("shape", [(50, 35), (25, 20, 30)])
@pytest.mark.parametrize("method", ["gradcam", "respondcam", "scorecam"])
def test_tokens_are_laid_on_the_grid_of_their_patches(task, method, shape, pooled):
    place = (22, 12, 17)[: len(shape)]
    image = image_with_spots(shape, place)
    job = task(Transformer(len(shape), pooled), image)
    (values,) = find_method(method)().attribute(job).values()
    assert_peak_at(values, place, 2)


def test_a_layer_behind_which_only_the_class_token_counts_is_refused(task):
    job = task(Transformer(2), torch.rand(1, 1, 50, 35))
    with pytest.raises(InputError, match=r"norms\.2") as error:
        GradCAM(layers=("norms.2",)).attribute(job)
    assert error.value.code is ErrorCode.LAYER_UNSUITABLE


class Member(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, stride=stride, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(3, 2)

    def forward(self, images):
        return self.fc(mean(self.relu(self.conv(images))))


class Ensemble(nn.Module):
    def __init__(self, strides):
        super().__init__()
        self.members = nn.ModuleList(Member(stride) for stride in strides)

    def forward(self, images):
        return torch.stack([member((images - 0.5) * 2) for member in self.members]).mean(0)


@pytest.mark.parametrize("strides", [(2, 2, 2), (1, 2)], ids=["one grid", "two grids"])
def test_all_members_of_an_ensemble_count(task, strides):
    network, image, notes = Ensemble(strides), torch.rand(1, 1, 20, 14), []
    maps = []
    for member, stride in zip(network.members, strides, strict=True):
        features = member.relu(member.conv((image - 0.5) * 2))[0].detach()
        weights = member.fc.weight[1].detach() / features[0].numel() / len(strides)
        # Cells of odd kernels lie on every voxel, or every other one from the first on.
        maps.append((torch.tensordot(weights, features, dims=1), ((float(stride), 0.0),) * 2))
    if len(set(strides)) == 1:
        expected = FeatureMap(sum(cells for cells, _ in maps).relu(), (20, 14), maps[0][1])
        expected = expected.upsampled()
    else:
        expected = sum(FeatureMap(one, (20, 14), place).upsampled() for one, place in maps).relu()
    (found,) = GradCAM().attribute(task(network, image, note=notes.append)).values()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    assert len(notes) == 1
    assert "members.0.relu" in notes[0]
    with pytest.raises(InputError) as error:
        CAM().attribute(task(network, image))
    assert error.value.code is ErrorCode.METHOD_NETWORK


class TwoLevels(nn.Module):
    """The means of an early and a late feature map go into the linear layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=1)
        self.second = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.fc = nn.Linear(5, 2)

    def forward(self, images):
        early = functional.softplus(self.first(images))
        late = functional.softplus(self.second(early))
        return self.fc(torch.cat([mean(early), mean(late)], 1))


def test_what_an_early_map_gives_to_a_late_one_does_not_count_twice(task):
    network, image = TwoLevels(), torch.rand(1, 1, 16, 12)
    job = task(network, image)
    (cells,) = RespondCAM().raw(job).values()
    total = float(cells.values.sum()) + sum(float(one.values.sum()) for one in cells.others)
    with torch.no_grad():
        score = network(image)[0, 1] - network.fc.bias[1]
    # The sum of a linear head's parts is its score.
    assert total == pytest.approx(float(score), rel=1e-5)


class Twice(nn.Module):
    """One encoder for two channels, one after another."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(1, 2, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.encoder.weight.fill_(1 / 9)
            self.fc.weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.1, 0.1]]))

    def forward(self, images):
        pooled = [mean(self.relu(self.encoder(one))) for one in images.split(1, dim=1)]
        return self.fc(torch.cat(pooled, 1))


@pytest.mark.parametrize("layers", [(), ("relu",), ("encoder",)])
def test_both_runs_of_a_shared_encoder_count(task, layers):
    first, second = image_with_spots((30, 26), (8, 9)), image_with_spots((30, 26), (22, 18))
    notes = []
    job = task(Twice(), torch.cat([first, second], 1), note=notes.append)
    (values,) = GradCAM(layers=layers).attribute(job).values()
    assert_peak_at(values, (8, 9), 1)
    # The run before the last has ten times the weight.
    assert float(values[8, 9]) == pytest.approx(10 * float(values[22, 18]), rel=1e-3)
    assert len(notes) == 1


def test_of_runs_one_after_another_the_last_counts_with_a_note(task):
    body, notes = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU()), []

    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.fc = body, nn.Linear(1, 2)

        def forward(self, images):
            return self.fc(mean(self.body(self.body(images))))

    network, image = Again(), torch.rand(1, 1, 9, 8)
    body[0].weight.data.abs_()
    network.fc.weight.data.abs_()
    job = task(network, image, note=notes.append)
    found = GradCAM(layers=("body.1",)).raw(job)["body.1"].values
    with torch.no_grad():
        expected = body(body(image))[0, 0] * network.fc.weight[1, 0] / 72
    torch.testing.assert_close(found, expected)
    assert "2 times" in notes[0]


class Biased(nn.Module):
    """A layer with the shape of a feature map that never sees the image, and runs last."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.bias = nn.Conv2d(1, 2, 1)
        self.register_buffer("places", torch.rand(1, 1, 12, 10))
        self.fc = nn.Linear(2, 2)

    def forward(self, images):
        features = self.conv(images).relu()
        return self.fc(mean(features + self.bias(self.places)))


def test_a_layer_that_the_image_does_not_reach_is_refused(task):
    job = task(Biased(), torch.rand(1, 1, 12, 10))
    with pytest.raises(InputError, match="bias") as error:
        GradCAM(layers=("bias",)).attribute(job)
    assert error.value.code is ErrorCode.LAYER_UNSUITABLE
    assert "bias" not in LayerSweep(which="all", each=True).attribute(job)


class Slices(nn.Module):
    """A 2D network for each slice of a volume; the slices' vectors go through an LSTM."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, stride=2, padding=1)
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.fc = nn.Linear(4, 2)
        with torch.no_grad():
            self.conv.weight.fill_(1 / 9)
            self.conv.bias.zero_()
            self.fc.weight[1] = -self.fc.weight[0]

    def forward(self, images):
        slices = images[0].permute(3, 0, 1, 2)
        vectors = functional.adaptive_avg_pool2d(self.conv(slices).relu(), 1).flatten(1)
        return self.fc(self.lstm(vectors[None])[0].mean(1))


@pytest.mark.parametrize("method", ["gradcam", "respondcam"])
def test_slices_of_a_volume_are_laid_beside_each_other(task, method):
    image = image_with_spots((24, 20, 7), (14, 8, 3))
    network = Slices()
    jobs = [task(network, image, target) for target in (0, 1)]
    maps = [next(iter(find_method(method)().attribute(job).values())) for job in jobs]
    strongest = max(maps, key=lambda values: float(values.abs().max()))
    assert strongest.shape == (24, 20, 7)
    assert_peak_at(strongest.abs(), (14, 8, 3), 2)


class Sorted(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.again = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.fc = nn.Linear(4, 2)

    def forward(self, images):
        features = self.conv(images)
        mixed = features.flatten(2)[:, :, torch.randperm(features[0, 0].numel())]
        return self.fc(mean(self.again(mixed.reshape(features.shape))))


def test_feature_maps_that_are_not_understood_are_refused(task):
    job = task(Sorted(), torch.rand(1, 1, 12, 10))
    for name in WITHOUT_GUIDED:
        with pytest.raises(InputError, match="Sorted") as error:
            find_method(name)().attribute(job)
        assert error.value.code is ErrorCode.LAYER_UNSUITABLE


@pytest.mark.parametrize(
    "make", [lambda: Branches(2), lambda: Twice(), lambda: ChannelsLast(2, False)]
)
def test_the_map_is_the_same_from_what_was_found_before_and_leaves_nothing(task, make):
    network = make()
    image = torch.rand(1, 2 if isinstance(network, Twice) else 1, 16, 12)
    job = task(network, image)
    first = GradCAM().attribute(job)
    assert len(job.network.structures) == 1
    again = GradCAM().attribute(job)
    moved = copy.deepcopy(job.network)
    assert moved.structures == job.network.structures != {}
    assert list(first) == list(again)
    for name, values in first.items():
        assert torch.equal(values, again[name])
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_an_exchanged_layer_is_found_out(task):
    network, image = Branches(2), torch.rand(1, 1, 16, 12)
    job = task(network, image)
    analyse(job.network, image)
    network.bright = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU())
    network.eval()
    (found,) = GradCAM().attribute(job).values()
    (expected,) = GradCAM().attribute(task(network, image)).values()
    assert torch.equal(found, expected)
