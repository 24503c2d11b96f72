"""``explain`` and ``predict``: maps, or probabilities, of an image and a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from monai.data import MetaTensor

from SaliencyExplain.api.argument_checks import path_of
from SaliencyExplain.api.explained_maps import ExplainedMap, explained_maps
from SaliencyExplain.api.method_arguments import MethodLike, methods_of
from SaliencyExplain.api.model_arguments import model_of
from SaliencyExplain.api.progress_bar import ProgressLike, shown
from SaliencyExplain.api.segmentation_arguments import segmentation_on
from SaliencyExplain.attribution.method_selection import choice_of
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.explain import explain as compute_explanation
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.prediction import predict as predict_image
from SaliencyExplain.explanation.prepared_case import PreparedCase, prepare
from SaliencyExplain.explanation.region_case import predict_sizes
from SaliencyExplain.images.images_in_memory import UNNAMED
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.inputs import channels_of, input_of, is_path
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.safe_names import safe_name
from SaliencyExplain.specification.spec_fields import spec_of
from SaliencyExplain.specification.target import Target
from SaliencyExplain.studies.case import Case, single_case
from SaliencyExplain.studies.single import save_explanation
from SaliencyExplain.studies.study_config import StudyConfig


@dataclass(frozen=True, repr=False)
class Result(Explanation):
    """What :func:`explain` gives: the maps, and how to write them.

    Attributes:
        attributions: One for each method and layer that gave a map; at least one.
        case: The image before the model.
        source: Name of the case, and its files where it was read from files.
        config: What was computed.
    """

    attributions: tuple[ExplainedMap, ...]
    case: PreparedCase = field(kw_only=True)
    source: Case = field(kw_only=True)
    config: StudyConfig = field(kw_only=True)

    def __iter__(self) -> Iterator[ExplainedMap]:
        """The attributions in the methods' order."""
        return iter(self.attributions)

    def __getitem__(self, which: int | str) -> ExplainedMap:
        """An attribution by its number or its label, such as ``gradcam``.

        Raises:
            IndexError: There are not so many.
            InputError: There is none of that label; the message has the nearest one.
        """
        return self.attributions[self.index_of(which)]

    @property
    def image(self) -> MetaTensor:
        """``(C, *S)``, as it was read."""
        return self.case.image

    def save(self, out: str | PathLike[str]) -> Path:
        """Writes the files that ``saliency-explain explain`` writes.

        For each map a NIfTI on the image's grid, bands as ``.seg.nrrd`` and a PNG; and
        ``explanation.json``, the tables and ``report.html``. Files of other cases, and of other
        methods of this one, are kept.

        Args:
            out: The output folder; made where it does not exist.

        Returns:
            The folder of the case.

        Raises:
            InputError: The folder holds the results of another model or image, or is not a path.
            OutputError: The folder cannot be written, or the disk is full.

        Example:
            >>> sorted({path.suffix for path in result.save(folder / "out").iterdir()})
            ['.gz', '.json', '.nrrd', '.png']
        """
        folder = path_of("out", out)
        if any(not one.images for one in self.config.backgrounds):
            raise InputError(
                ErrorCode.OPTION_CONFLICT,
                "The backgrounds have no files, whose names the results contain: give the "
                "backgrounds as paths to explain.",
            )
        case, config = self.case, dataclasses.replace(self.config, out=folder)
        save_explanation(
            self.source,
            config,
            case.classifier,
            self,
            case.image,
            case.references.segmentation,
        )
        return config.out / self.source.case

    def _repr_html_(self) -> str:
        shares = ", ".join(
            f"{escape(name)} {share:.2f}"
            for name, share in zip(self.classes, self.probabilities, strict=True)
        )
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        failures = "".join(f"<li>{escape(one.line)}</li>" for one in self.failures)
        pictures = "".join(one._repr_html_() for one in self.attributions)
        return f"<p>{shares}</p>{pictures}<ul>{failures}{notes}</ul>"


def explain(
    image: Any,
    model: Classifier | str | PathLike[str],
    methods: MethodLike | Sequence[MethodLike],
    *,
    target: Target | str | int = "predicted",
    roi: str = "",
    roi_size_mm: float | None = None,
    roi_margin_mm: float = 0.0,
    segmentation: Any = None,
    backgrounds: Sequence[Any] = (),
    seed: int = 0,
    device: str = "auto",
    memory: float | str | None = None,
    precision: str = "float32",
    batch_size: int | None = None,
    seconds: float | None = None,
    name: str | None = None,
    series: str | None = None,
    progress: ProgressLike = None,
) -> Result:
    """Computes which voxels speak for a class, on the image's own grid.

    Args:
        image: A path, a MONAI MetaTensor, a nibabel or SimpleITK image, or ``(array, affine)``
            with the affine to RAS millimetres; a list of these, or a dictionary of names to
            these, for a model of several channels.
        model: What :func:`Model` or :func:`load_model` gives, or what the latter takes.
        methods: One or several: ``GradCAM()``, ``Occlusion(window_mm=16)``, a class, or a name.
        target: Name or index of the class, ``predicted``, or another :class:`Target`, such as
            ``difference:glioma|meningioma``.
        roi: The part of the image that the model looks at: ``segmentation``, ``segment:NAME``,
            ``lesion:NUMBER``, ``point:R,A,S`` or ``box:R,A,S,R,A,S`` in mm; empty: the whole image.
            Maps are on the whole image's grid, and undefined outside of the part.
        roi_size_mm: Edge of the region of interest; None: as large as the region itself.
        roi_margin_mm: Margin around it on each side.
        segmentation: For methods that need segments; ``save`` also compares the maps with it. A
            path or several, a dictionary of names to masks, or a label map on the image's grid.
        backgrounds: Images that stand for "nothing in particular", for methods that need them.
        seed: Random seed: the same seed and image give the same map.
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda:N``.
        memory: Most bytes that batches and stored maps may take, or a text such as ``"4 GB"``;
            None: half of what is free.
        precision: ``float32``, or ``bfloat16`` for the gradient methods.
        batch_size: Images in a forward pass; None: chosen from the free memory.
        seconds: When occlusion, SmoothGrad and other methods that refine their map are stopped,
            with the best map so far; None: no limit.
        name: Of the case, for files; None: of the image's file, ``case-001`` for DICOM.
        series: SeriesInstanceUID, where a folder holds several series.
        progress: None: a bar in a notebook or terminal where tqdm is installed; True or False; or
            a function of forward passes done and in all.

    Returns:
        The maps: ``result[0].values``, ``result["gradcam"].plot()``, ``result.save("out")``.

    Raises:
        InputError: The image, a method, the class or an argument does not fit.
        ClassifierError: The network fails on the image.
        DeviceMemoryError: The memory does not hold a single image.
        KeyboardInterrupt: Interrupted; the network is as it was.

    Example:
        >>> import SaliencyExplain as se
        >>> phantom = se.draw_phantom("glioma-like", seed=3, dimensions=2)
        >>> result = se.explain(phantom.image, "demo:phantom-2d-honest", [se.GradCAM(), "gradient"])
        >>> result.target_name, len(result), result[0].values.shape
        ('glioma-like', 2, (184, 224))
    """
    opened = model_of(model)
    chosen = methods_of(methods)
    read = input_of(opened, image, series=series)
    segments, notes = segmentation_on(segmentation, read)
    references = LoadedReferences(segments, tuple(input_of(opened, one) for one in backgrounds))
    spec = spec_of(
        tuple(map(choice_of, chosen)),
        target=target,
        roi=roi,
        roi_size_mm=roi_size_mm,
        roi_margin_mm=roi_margin_mm,
        seed=seed,
        memory=memory,
        precision=precision,
        batch_size=batch_size,
        seconds=seconds,
    )
    with shown(progress, "explaining") as report:
        case = prepare(
            read,
            opened,
            spec.target,
            Compute(device, spec.limits),
            references,
            report,
            spec.region,
        )
        found = compute_explanation(case, chosen, seed=spec.seed, progress=report)
    config = StudyConfig(
        opened.source or Path(opened.name),
        Path(),
        spec,
        device,
        trust=opened.trusted,
        backgrounds=_background_cases(backgrounds),
    )
    source = _case(image, read.meta.get("name"), name, series, segmentation)
    fields = {one.name: getattr(found, one.name) for one in dataclasses.fields(found)}
    fields["notes"] = tuple(dict.fromkeys((*found.notes, *notes)))
    fields["attributions"] = tuple(explained_maps(found.attributions, case, chosen))
    return Result(**fields, case=case, source=source, config=config)


def predict(
    image: Any,
    model: Classifier | str | PathLike[str],
    *,
    device: str = "auto",
    series: str | None = None,
) -> dict[str, float]:
    """The probability of each class; of a segmentation network the size of each class.

    Args:
        image: As in :func:`explain`.
        model: As there.
        device: As there.
        series: As there.

    Returns:
        By class in [0, 1]; of a segmentation network in ml, of a 2D one in cm2.

    Raises:
        InputError: The image or device does not fit.
        DeviceMemoryError: The memory does not hold the image.

    Example:
        >>> import SaliencyExplain as se
        >>> phantom = se.draw_phantom("glioma-like", seed=3, dimensions=2)
        >>> shares = se.predict(phantom.image, "demo:phantom-2d-honest")
        >>> max(shares, key=shares.get)
        'glioma-like'
    """
    opened = model_of(model)
    if opened.windows is not None:
        sizes, _ = predict_sizes(input_of(opened, image, series=series), opened, device=device)
        return {one.name: one.size for one in sizes}
    found = predict_image(input_of(opened, image, series=series), opened, device=device)
    return dict(zip(found.classes, found.probabilities, strict=True))


def _case(
    image: Any, read_name: Any, name: str | None, series: str | None, segmentation: Any = None
) -> Case:
    """The case of an image; for an image in memory it has only a name."""
    images = channels_of(image)
    if not all(is_path(one) for _, one in images):
        return Case(safe_name(name or str(read_name or UNNAMED)), (), private=True)
    masks = [segmentation] if is_path(segmentation) else segmentation
    listed = isinstance(masks, Sequence) and all(is_path(one) for one in masks)
    files = tuple(Path(one) for one in masks) if listed else ()
    named = [(channel, Path(one)) for channel, one in images]
    case = single_case(named, files[0] if files else None, name=name, series=series)
    return dataclasses.replace(case, further_segmentations=files[1:])


def _background_cases(backgrounds: Sequence[Any]) -> tuple[Case, ...]:
    """The backgrounds as cases of files; those in memory have no files."""
    return tuple(
        _case(one, None, f"background {number}", None)
        for number, one in enumerate(backgrounds, start=1)
    )
