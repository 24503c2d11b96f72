"""What a finished training says of itself: a JSON document and a picture of its course."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.models.bundle import LARGEST_CONFIG_BYTES, BundleFiles
from SaliencyExplain.studies.case import Case
from SaliencyExplain.studies.found import Found

RECORD, CURVE = "training.json", "training.png"


def course_picture(history: Sequence[Mapping[str, float]], best: int, title: str) -> bytes:
    """Loss and accuracy over the epochs, as a PNG.

    Args:
        history: Figures of each epoch, of :class:`SaliencyExplain.training.epochs.Training`.
        best: Index of the epoch whose weights were kept.
        title: Words above the picture.

    Returns:
        The file's bytes; the same history gives the same bytes.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    epochs = range(1, len(history) + 1)
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((name, "learning"), (f"validation_{name}", "validation")):
            axes.plot(epochs, [epoch[key] for epoch in history], marker=".", label=label)
        axes.axvline(best + 1, color="0.5", linestyle=":", label=f"kept: epoch {best + 1}")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.axes[1].set_ylim(-0.02, 1.02)
    figure.axes[0].legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def held_out_cases(cases: Sequence[Case], classifier: Path) -> Found:
    """The cases that had no part in a classifier's training.

    Args:
        cases: Those of the folder or table that it was trained on.
        classifier: Its bundle, from :func:`SaliencyExplain.training.train.train_classifier`.

    Raises:
        InputError: The bundle does not say what was held out, or none of the cases were.
    """
    files = BundleFiles(classifier)
    try:
        record = json.loads(files.read(f"docs/{RECORD}", largest=LARGEST_CONFIG_BYTES))
        names = set(record["parts"]["test"])
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            ErrorCode.CASES_MISSING,
            f"{classifier}: it has no record of held-out cases, because it was not made by "
            "'saliency-explain model train'.",
        ) from error
    kept = [case for case in cases if case.case in names]
    if not kept:
        raise InputError(
            ErrorCode.CASES_MISSING,
            f"None of these {len(cases)} cases was held out by the training of {classifier.name}, "
            f"which held out {len(names)}. Name the folder or table that it was trained on.",
        )
    return cases.only(kept) if isinstance(cases, Found) else Found(kept)
