"""``compare`` and ``evaluate``: agreement of maps with a segmentation, and evaluation of maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from os import PathLike
from typing import Any

from SaliencyExplain.api.argument_checks import number_of, path_of
from SaliencyExplain.api.explained_maps import ExplainedMap
from SaliencyExplain.api.explaining import Result
from SaliencyExplain.api.progress_bar import ProgressLike, shown
from SaliencyExplain.api.segmentation_arguments import segmentation_on
from SaliencyExplain.comparison.map_comparison import Comparison, compare_attributions
from SaliencyExplain.errors import ErrorCode, InputError, wrong_type
from SaliencyExplain.evaluation.image.cost import COST_TIERS
from SaliencyExplain.evaluation.image.evaluation_files import write_evaluation
from SaliencyExplain.evaluation.image.map_evaluation import evaluate_maps
from SaliencyExplain.evaluation_parts import PARTS
from SaliencyExplain.images.segmentation import EMPTY_NOTE
from SaliencyExplain.results.image_evaluation import Evaluation
from SaliencyExplain.specification.spec_fields import value_of


def compare(
    attributions: ExplainedMap | Result,
    segmentation: Any,
    *,
    seed: int = 0,
    tolerance_mm: float = 5.0,
) -> Comparison:
    """Agreement of maps with a segmentation, with random and centre-weighted control maps.

    Args:
        attributions: One map, or all that :func:`explain` gave.
        segmentation: A path or several, a dictionary of names to masks, or a label map on the
            image's grid.
        seed: Random seed of the random maps.
        tolerance_mm: Tolerance of the pointing game, mm.

    Returns:
        A row for each map and segment; ``to_pandas()`` makes a table of it.

    Raises:
        InputError: The segmentation cannot be read, has no voxel, or is not of the image;
            or an argument is of the wrong type.

    Example:
        >>> import SaliencyExplain as se
        >>> phantom = se.draw_phantom("glioma-like", seed=3, dimensions=2)
        >>> result = se.explain(phantom.image, "demo:phantom-2d-honest", se.GradCAM())
        >>> row = se.compare(result[0], phantom.masks)[0]
        >>> row.segment, row.agreement.auroc > 0.9
        ('tumour', True)
    """
    maps = _maps(attributions)
    start, tolerance = value_of("seed", seed), number_of("tolerance_mm", tolerance_mm)
    segments, notes = segmentation_on(segmentation, maps[0].case.image)
    if segments is None:
        raise InputError(ErrorCode.SEGMENTATION_EMPTY, f"The segmentation: {EMPTY_NOTE}.")
    case = str(maps[0].case.image.meta.get("name", ""))
    image = maps[0].case.image
    found = compare_attributions(case, maps, image, segments, seed=start, tolerance_mm=tolerance)
    return dataclasses.replace(found, notes=(*notes, *found.notes))


def evaluate(
    attributions: ExplainedMap | Result,
    segmentation: Any = None,
    *,
    parts: Sequence[str] = PARTS,
    cost_tier: str | None = None,
    passes: float | None = None,
    out: str | PathLike[str] | None = None,
    progress: ProgressLike = None,
) -> Evaluation:
    """Evaluates maps: faithfulness, sensitivity to the weights, stability, localisation.

    The maps are computed again for changed images, seeds and weights, with the parameters and the
    seed that they were computed with.

    Args:
        attributions: One map, or all that :func:`explain` gave.
        segmentation: As in :func:`compare`; None: the one that ``explain`` was given, if any.
        parts: Which of ``faithfulness``, ``sanity``, ``stability``, ``agreement``, ``channels``.
        cost_tier: ``full``, ``reduced`` or ``least``; None: the greatest that the budget allows.
        passes: Most forward passes; None: no limit.
        out: Folder for the files that ``saliency-explain evaluate`` writes; None: no files.
        progress: As in :func:`explain`.

    Returns:
        What was found; ``.maps[0].answers`` has an answer to each question in words.

    Raises:
        InputError: An argument does not fit.
        OutputError: The files cannot be written.

    Example:
        >>> import SaliencyExplain as se
        >>> phantom = se.draw_phantom("glioma-like", seed=3, dimensions=2)
        >>> result = se.explain(phantom.image, "demo:phantom-2d-honest", se.GradCAM())
        >>> found = se.evaluate(result[0], parts=["stability"], cost_tier="least")
        >>> [one.answer for one in found.maps[0].answers if "stable" in one.question]
        ['yes']
    """
    if cost_tier is not None and cost_tier not in COST_TIERS:
        raise InputError(
            ErrorCode.NAME_UNKNOWN,
            f"cost_tier is one of {', '.join(COST_TIERS)}, not '{cost_tier}'.",
        )
    folder = None if out is None else path_of("out", out)
    maps = _maps(attributions)
    case = maps[0].case
    if segmentation is not None:
        segments, _ = segmentation_on(segmentation, case.image)
        case = case.with_references(segments)
    methods = list(dict.fromkeys(one.computed_by for one in maps))
    with shown(progress, "evaluating") as report:
        found = evaluate_maps(
            case,
            methods,
            parts=parts,
            seed=int(maps[0].provenance["seed"]),
            cost_tier=None if cost_tier is None else COST_TIERS[cost_tier],
            budget=value_of("passes", passes),
            progress=report,
        )
    if folder is not None:
        write_evaluation(folder, found)
    return found.evaluation


def _maps(given: ExplainedMap | Result) -> Sequence[ExplainedMap]:
    if isinstance(given, ExplainedMap):
        return (given,)
    if isinstance(given, Result):
        return given.attributions
    raise wrong_type("attributions", "the result of explain(...) or one of its maps", given)
