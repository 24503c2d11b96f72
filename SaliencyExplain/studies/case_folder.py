"""The folder of one case's results: written beside its place, renamed when complete."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from monai.data import MetaTensor

from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.bands import label_bands
from SaliencyExplain.comparison.table import auroc_chance
from SaliencyExplain.errors import ErrorCode, OutputError
from SaliencyExplain.images.image_writing import write_bands, write_volume
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.json_text import json_text
from SaliencyExplain.pictures import draw_planes
from SaliencyExplain.records.agreement_row import Row
from SaliencyExplain.records.case_record import EXPLANATION, CaseRecord
from SaliencyExplain.records.image_record import CaseFiles
from SaliencyExplain.results.attribution_map import Attribution
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.studies.case import safe_name
from SaliencyExplain.studies.kept_results import PARTIAL, earlier_record, keep_files
from SaliencyExplain.studies.output_folder import HeldFolder
from SaliencyExplain.studies.record_building import added_to, record_of
from SaliencyExplain.studies.report_words import percent


def write_case(
    folder: Path,
    case: str,
    explanation: Explanation,
    image: MetaTensor,
    *,
    segmentation: Segmentation | None = None,
    rows: Sequence[Row] = (),
    files: CaseFiles | None = None,
    keep_identifiers: bool = False,
    held: HeldFolder | None = None,
    order: Sequence[str] | None = None,
) -> CaseRecord:
    """Writes one case's results as ``folder/case``, whole or not at all.

    For each attribution ``<method>-<target>.nii.gz`` (the map on the image's grid),
    ``.seg.nrrd`` (its label-map bands) and ``.png`` (three planes through its peak);
    and ``explanation.json``: prediction, target, parameters with their units,
    figures beside the control maps, notes, provenance (of each map, and what all of
    them have in common), timings. Names are made safe
    by :func:`SaliencyExplain.studies.case.safe_name`. Results of an earlier run in
    the same place are replaced; any other folder there is left alone.

    Args:
        folder: The output folder; made where it does not exist.
        case: The case's name.
        explanation: What is written.
        image: ``(C, *S)``, as it was read.
        segmentation: Outlined in the pictures; on the image's grid.
        rows: The case's rows of the comparison, those of the control maps too.
        files: Where the case's files lie; None: not to be told.
        keep_identifiers: Write the input image's own name, which may name the
            patient; without it the case's name stands for it.
        held: The output folder as the run holds it, looked at again before the case gets its
            final name; None: it is not held.
        order: Names of all methods of the case in their order, where the maps of other methods
            that lie in the same place stay, with their evaluation; None: nothing stays.

    Returns:
        The case's record as it was written.

    Raises:
        InputError: The results in the place are to stay, and are of another image or class.
        OutputError: The disk is full, nothing may be written there, or the place
            is taken by something that is no result of this program.
    """
    name = safe_name(case)
    earlier = None if order is None else earlier_record(folder / name, explanation)
    record = record_of(
        case,
        explanation,
        image,
        segmentation=segmentation,
        rows=rows,
        files=files,
        image_name=None if keep_identifiers else case,
    )
    with _complete_folder(folder, name, held) as temporary:
        for attribution, map_ in zip(explanation.attributions, record.maps, strict=True):
            captions = [_figures(row, auroc_chance(rows, row.segment)) for row in map_.comparison]
            _write_attribution(
                temporary / map_.files.stem,
                case,
                explanation,
                image,
                attribution,
                segmentation,
                captions[:2],
            )
        if earlier is not None and order is not None:
            computed = record.answered
            gone = [one.files for one in earlier.maps if one.method in computed]
            record = added_to(earlier, record, computed, order)
            keep_files(folder / name, temporary, gone)
        _write_text(temporary / EXPLANATION, json_text(record.as_json()))
    return record


@contextlib.contextmanager
def _complete_folder(folder: Path, name: str, held: HeldFolder | None) -> Iterator[Path]:
    final = folder / name
    if final.exists() and not _may_replace(final):
        raise OutputError(
            ErrorCode.OUTPUT_EXISTS,
            f"{final}: it exists and is not a result of SaliencyExplain. Choose another folder.",
        )
    temporary = folder / PARTIAL / f"{name}-{os.getpid()}"
    old = folder / PARTIAL / f"{name}-{os.getpid()}-old"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        if held is None:
            folder.mkdir(parents=True, exist_ok=True)
        _make_partial(folder, temporary)
        yield temporary
        _end_with_parent()
        if held is not None:
            held.check()
        if final.exists():
            os.rename(final, old)
        os.rename(temporary, final)
        _synchronise(folder)
    except OSError as error:
        raise OutputError(
            ErrorCode.OUTPUT_UNWRITABLE, f"{final}: cannot be written ({error.strerror})."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        with contextlib.suppress(OSError):
            (folder / PARTIAL).rmdir()


def _make_partial(folder: Path, temporary: Path) -> None:
    # Not with all parents: an output folder that was deleted during the run stays deleted.
    while True:
        (folder / PARTIAL).mkdir(exist_ok=True)
        # Another process removes the folder once it finds it empty.
        with contextlib.suppress(FileNotFoundError):
            temporary.mkdir()
            return


def _may_replace(final: Path) -> bool:
    return final.is_dir() and ((final / EXPLANATION).is_file() or not any(final.iterdir()))


def _end_with_parent() -> None:
    # A worker process whose run was killed may be in the middle of a case, and the run that goes
    # on may be at the same one already: what is renamed into place must be of the living run.
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)


def _synchronise(folder: Path) -> None:
    # A rename survives a power cut only once its folder is on the disk; Windows
    # opens no folders.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_attribution(
    stem: Path,
    case: str,
    explanation: Explanation,
    image: MetaTensor,
    attribution: Attribution,
    segmentation: Segmentation | None,
    captions: Sequence[str],
) -> None:
    values, affine = attribution.values, attribution.affine
    done = attribution.share_done
    method = find_method(attribution.method)
    partial = f" (partial: {percent(min(done, 0.99))} of the {method.parts})" if done < 1 else ""
    description = attribution.description + partial
    write_volume(stem.with_name(f"{stem.name}.nii.gz"), values, affine, description)
    write_bands(stem.with_name(f"{stem.name}.seg.nrrd"), label_bands(values), affine)
    segments = segmentation.segments if segmentation else ()
    target = attribution.target_with_probability(explanation.classes, explanation.probabilities)
    what = f"{attribution.title}{partial}"
    draw_planes(
        stem.with_name(f"{stem.name}.png"),
        np.asarray(image[attribution.channel]),
        values,
        affine,
        segments=[(segment.name, segment.color, segment.mask) for segment in segments],
        title=f"{case} · {what} · {target}",
        signed=attribution.signed,
        resolution_mm=attribution.resolution_mm,
        captions=captions,
    )


def _figures(row: Row, chance: str) -> str:
    found = row.agreement
    if row.remark:
        return f"{row.segment}: {row.remark}"
    return (
        f"{row.segment}: AUROC {found.auroc:.2f} ({chance}), energy inside "
        f"{percent(found.energy_inside)} (chance {percent(found.energy_chance)})"
    )


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
