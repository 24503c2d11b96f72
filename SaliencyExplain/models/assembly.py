"""The last step of opening a classifier: its outputs are tried, and its parts put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monai.transforms import Compose
from torch import nn

from SaliencyExplain.attribution.network.region_scores import RegionMean
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.models.bundle_settings import Setting
from SaliencyExplain.models.check_record import CheckRecord, check_setting
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.decision import decide, found_settings
from SaliencyExplain.models.metadata import Metadata
from SaliencyExplain.models.output_meaning import examine
from SaliencyExplain.models.preprocessing import size_of, spacing_of
from SaliencyExplain.models.probe import probe
from SaliencyExplain.models.segmentation_output import segmentation_output, segmentation_settings
from SaliencyExplain.models.sliding_window import check_whole_image, sliding_window


def assemble(
    network: nn.Module,
    described: Metadata,
    configuration: Mapping[str, Any],
    *,
    name: str,
    spatial_dims: int,
    preprocessing: Callable[[dict[str, Any]], Any],
    identity: str,
    source: Path | None,
    form: str,
    trusted: bool,
    guess: bool = False,
    notes: tuple[str, ...] = (),
    record: CheckRecord | None = None,
) -> Classifier:
    """A classifier of a network, what is said of it, and a checked preprocessing.

    The network runs on a few made images, which show what its outputs are.

    Args:
        network: In eval mode, its parameters frozen, on the CPU.
        described: Names of classes and channels, and the input's size where it is fixed.
        configuration: Its ``postprocessing`` says the activation.
        name: See :class:`~SaliencyExplain.models.classifier.Classifier`, as all that follow.
        spatial_dims: 2 or 3.
        preprocessing: Checked: the affine is true after it.
        identity: sha256 (hex).
        source: Where it was loaded from; None: it is in memory only.
        form: The classifier's ``format``.
        trusted: Whether somebody vouches for its code.
        guess: Whether logits of several classes get a softmax where no activation is said.
        notes: What a user must be told of loading.
        record: A comparison of its predictions with known ones; None: nothing is known of one.

    Raises:
        ClassifierError: The network takes no such image, or its outputs are not class scores.
    """
    steps = preprocessing if isinstance(preprocessing, Compose) else Compose([])
    size = size_of(steps, spatial_dims) or described.size
    result, noise = probe(network, len(described.channels), spatial_dims, size)
    maps = segmentation_output(result, noise, described, configuration)
    if maps is not None:
        decision, note = maps.decision, maps.note
        found = segmentation_settings(maps)
        windows = sliding_window(configuration, spatial_dims)
        # The maps are at the end of the wrapped network, which gives a score for each class.
        network, path = RegionMean(network, maps.path, spatial_dims), ""
    else:
        check_whole_image(configuration)
        output = examine(
            network, noise, result, described.classes, described.output, _why_output(described)
        )
        decision, note = decide(described, configuration, output, guess=guess), output.note
        found, windows, path = found_settings(output, decision), None, output.path
    settings = _settings(described.settings, found)
    return Classifier(
        name=name,
        classes=decision.classes,
        channels=described.channels,
        spatial_dims=spatial_dims,
        network=ScoreNetwork(
            network,
            decision.activation,
            one_logit=decision.one_logit,
            output=path,
            independent=decision.independent,
            confined=not trusted,
        ).eval(),
        preprocessing=preprocessing,
        identity=identity,
        source=source,
        spacing=spacing_of(steps, spatial_dims),
        input_size=size if windows is None else size_of(steps, spatial_dims),
        format=form,
        trusted=trusted,
        notes=(*notes, *((note,) if note else ()), *decision.notes),
        settings=(*settings, check_setting(record, identity, settings)),
        windows=windows,
        words=described.words,
    )


def _why_output(described: Metadata) -> str:
    """Why the output that a bundle names is the one of the class scores."""
    for setting in described.settings:
        path, _, why = setting.value.partition(", ")
        if (setting.name, path) == ("output", described.output) and setting.source == "tried":
            return f"{why} (found when the bundle was made)" if why else "as found by trying"
    return "as the bundle says"


def _settings(said: tuple[Setting, ...], found: tuple[Setting, ...]) -> tuple[Setting, ...]:
    """The settings that a bundle says, and of what was found those that it does not say."""
    names = {setting.name for setting in said}
    return said + tuple(setting for setting in found if setting.name not in names)
