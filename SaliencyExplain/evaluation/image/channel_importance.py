"""Importance of the channels, and whether maps lie on what each modality shows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from SaliencyExplain.attribution.network.frozen_network import plain
from SaliencyExplain.attribution.passes.task import Task
from SaliencyExplain.attribution.perturbation.infill import infill_of
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.evaluation.image.evaluation_passes import probabilities_of_images
from SaliencyExplain.progress import Progress, silent
from SaliencyExplain.results.channel_results import ChannelImportance, FeatureImportance

#: Largest number of channels; exact values need 2^C forward passes.
MOST_CHANNELS = 8

#: Infill for an absent channel, see :func:`infill_of`: its mean.
FILL = "mean"


def channel_importance(
    task: Task, names: Sequence[str], *, progress: Progress = silent
) -> ChannelImportance:
    """Exact Shapley values of the channels (Shapley 1953; Jin et al. 2022, section 4.3).

    Args:
        task: Network, image and target.
        names: Of the channels in the network's order.
        progress: Told after each batch; may raise Cancelled.

    Raises:
        InputError: There is one channel, or more than :data:`MOST_CHANNELS`.
    """
    image = plain(task.input)
    count = image.shape[1]
    if not 2 <= count <= MOST_CHANNELS:
        raise InputError(
            ErrorCode.CHANNELS,
            f"Channels: their Shapley values need 2 to {MOST_CHANNELS} channels, and the "
            f"classifier takes {count}. Evaluate without this part.",
        )
    everywhere = torch.ones(image.shape[2:], dtype=torch.bool, device=image.device)
    substitute = infill_of(image, FILL, task.spacing, seed=task.seed).place(
        (0,) * everywhere.ndim, everywhere
    )
    coalitions = list(itertools.product((False, True), repeat=count))

    def build(index: int) -> Tensor:
        present = torch.tensor(coalitions[index], device=image.device)
        return torch.where(present.reshape(-1, *[1] * everywhere.ndim), image[0], substitute)

    found = probabilities_of_images(task, len(coalitions), build, progress)[:, task.target]
    worth = dict(zip(coalitions, found.tolist(), strict=True))
    return ChannelImportance(
        channels=tuple(names),
        values=tuple(_shapley(worth, channel, count) for channel in range(count)),
        whole=worth[(True,) * count],
        nothing=worth[(False,) * count],
        fill=FILL,
    )


def _shapley(worth: Mapping[tuple[bool, ...], float], channel: int, count: int) -> float:
    total = 0.0
    for coalition, value in worth.items():
        if coalition[channel]:
            continue
        joined = (*coalition[:channel], True, *coalition[channel + 1 :])
        size = sum(coalition)
        weight = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
        total += weight * (worth[joined] - value)
    return total


def check_modalities(modalities: Iterable[str], channels: Sequence[str]) -> None:
    """Raises InputError if a segmentation belongs to a channel that the classifier lacks."""
    for name in modalities:
        if name not in channels:
            raise InputError(
                ErrorCode.NAME_UNKNOWN,
                f"Segmentation of the modality '{name}': the classifier has no such channel. Use "
                f"one of {', '.join(channels)}.",
            )


def feature_importance(
    maps: Mapping[str, NDArray[np.floating]],
    masks: Mapping[str, NDArray[np.bool_]],
    importance: ChannelImportance,
    body: NDArray[np.bool_] | None,
    *,
    per_channel: bool,
) -> FeatureImportance:
    """The MSFI of maps, and that of a constant map.

    Args:
        maps: See :func:`modality_specific_feature_importance`.
        masks: See :func:`modality_specific_feature_importance`.
        importance: See :func:`modality_specific_feature_importance`.
        body: ``(*S)``, the region of the constant map; None: everywhere.
        per_channel: Whether each channel has its own map.

    Raises:
        InputError: A mask belongs to no channel.
    """
    shape = next(iter(masks.values())).shape
    even = np.ones(shape, dtype=np.float32) if body is None else body.astype(np.float32)
    msfi = modality_specific_feature_importance
    return FeatureImportance(
        value=msfi(maps, masks, importance),
        chance=msfi(dict.fromkeys(masks, even), masks, importance),
        per_channel=per_channel,
        shares={name: _share_inside(maps[name], mask) for name, mask in masks.items()},
    )


def modality_specific_feature_importance(
    maps: Mapping[str, NDArray[np.floating]],
    masks: Mapping[str, NDArray[np.bool_]],
    importance: ChannelImportance,
) -> float:
    """MSFI: the weighted share of each modality's map on its own feature.

    Jin et al. 2022, Evaluating explainable AI on a multi-modal medical imaging task, equation
    2: the sum over modalities of importance times the share of the positive map inside the
    modality's mask, divided by the sum of the importances. A modality of negative importance has
    no feature that a map should show, and counts as 0.

    Args:
        maps: ``{modality: map (*S)}``; a method with one map for all channels uses it for each.
        masks: ``{modality: mask (*S)}`` of the features that this modality shows.
        importance: Importance of the channels, which ``masks`` names.

    Returns:
        In [0, 1]; NaN if no modality with a mask has positive importance, or the map of one has
        no positive voxel.

    Raises:
        InputError: A mask belongs to no channel.
    """
    check_modalities(masks, importance.channels)
    weights = dict(zip(importance.channels, importance.values, strict=True))
    found = weight_sum = 0.0
    for name, mask in masks.items():
        weight = max(0.0, weights[name])
        if weight == 0:
            continue
        found += weight * _share_inside(maps[name], mask)
        weight_sum += weight
    return found / weight_sum if weight_sum > 0 else math.nan


def _share_inside(values: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """Share of a map's positive part inside a mask; NaN if no voxel is positive."""
    positive = np.maximum(values, 0)
    energy = float(positive.sum(dtype=np.float64))
    return float(positive[mask].sum(dtype=np.float64)) / energy if energy > 0 else math.nan
