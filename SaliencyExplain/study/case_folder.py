"""The folder of one case's results: written beside its place, renamed when complete."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from SaliencyExplain.attribution.parameters import unit_of
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.bands import label_bands
from SaliencyExplain.comparison import control_names
from SaliencyExplain.comparison.table import Row, auroc_chance
from SaliencyExplain.errors import ErrorCode, OutputError
from SaliencyExplain.field_of_view import FieldOfView
from SaliencyExplain.figures import CHANNEL, EACH_SEGMENT
from SaliencyExplain.images.grids import spacing_of
from SaliencyExplain.images.image_writing import write_bands, write_volume
from SaliencyExplain.images.segmentation import Segmentation
from SaliencyExplain.json_text import json_text
from SaliencyExplain.length_unit import length_unit
from SaliencyExplain.peak import RESOLUTION_MM
from SaliencyExplain.pictures import draw_planes
from SaliencyExplain.results.attribution_maps import Attribution, Explanation
from SaliencyExplain.study.added_methods import in_order
from SaliencyExplain.study.case import safe_name
from SaliencyExplain.study.kept_results import (
    EXPLANATION,
    PARTIAL,
    earlier_document,
    keep_files,
    with_earlier,
)
from SaliencyExplain.study.output_folder import HeldFolder
from SaliencyExplain.study.report_words import percent

#: The files of a map and how their names end.
MAP_FILES = {"map": ".nii.gz", "bands": ".seg.nrrd", "picture": ".png"}
#: Parts of a map's provenance that are said of no case, even where all of its maps share them.
_OF_ONE_MAP = ("notes", "share_done", "budget_seconds", RESOLUTION_MM, EACH_SEGMENT, CHANNEL)


def file_stem(attribution: Attribution) -> str:
    """``<method>-<target>`` or ``<method>@<layer>-<target>``, safe as a file name."""
    return f"{safe_name(attribution.label)}-{safe_name(attribution.target_name)}"


def write_case(
    folder: Path,
    case: str,
    explanation: Explanation,
    *,
    segmentation: Segmentation | None = None,
    rows: Sequence[Row] = (),
    origin: Mapping[str, Any] | None = None,
    keep_identifiers: bool = False,
    held: HeldFolder | None = None,
    order: Sequence[str] | None = None,
) -> list[Path]:
    """Writes one case's results as ``folder/case``, whole or not at all.

    For each attribution ``<method>-<target>.nii.gz`` (the map on the image's grid),
    ``.seg.nrrd`` (its label-map bands) and ``.png`` (three planes through its peak);
    and ``explanation.json``: prediction, target, parameters with their units,
    figures beside the yardsticks, notes, provenance (of each map, and what all of
    them have in common), timings. Names are made safe
    by :func:`SaliencyExplain.study.case.safe_name`. Results of an earlier run in
    the same place are replaced; any other folder there is left alone.

    Args:
        folder: The output folder; made where it does not exist.
        case: The case's name.
        explanation: What is written.
        segmentation: Outlined in the pictures; on the image's grid.
        rows: The case's rows of the comparison, those of the yardsticks too.
        origin: Where the case's files lie, see
            :func:`SaliencyExplain.study.origins.origin_of`; None: not to be told.
        keep_identifiers: Write the input image's own name, which may name the
            patient; without it the case's name stands for it.
        held: The output folder as the run holds it, looked at again before the case gets its
            final name; None: it is not held.
        order: Names of all methods of the case in their order, where the maps of other methods
            that lie in the same place stay, with their trial; None: nothing stays.

    Returns:
        The files that were written, ``explanation.json`` last.

    Raises:
        InputError: The results in the place are to stay, and are of another image or class.
        OutputError: The disk is full, nothing may be written there, or the place
            is taken by something that is no result of this program.
    """
    name = safe_name(case)
    earlier = None if order is None else earlier_document(folder / name, explanation)
    with _complete_folder(folder, name, held) as temporary:
        files: list[str] = []
        maps = []
        for attribution in explanation.attributions:
            stem = file_stem(attribution)
            own = [row for row in rows if row.method == attribution.label]
            captions = [_figures(row, auroc_chance(rows, row.segment)) for row in own[:2]]
            _write_attribution(
                temporary / stem, case, explanation, attribution, segmentation, captions
            )
            names = {kind: f"{stem}{suffix}" for kind, suffix in MAP_FILES.items()}
            files += names.values()
            name_of = None if keep_identifiers else case
            maps.append(_attribution_json(attribution, names, own, name_of))
        computed = {*(one["method"] for one in maps), *(f.method for f in explanation.failures)}
        if earlier is not None and order is not None:
            stay = [one for one in earlier["attributions"] if one["method"] not in computed]
            gone = [one for one in earlier["attributions"] if one["method"] in computed]
            maps = in_order([*stay, *maps], order, "method")
            keep_files(folder / name, temporary, gone)
        content = _case_json(case, explanation, maps, segmentation, rows)
        if earlier is not None:
            content = with_earlier(content, earlier, computed)
        content["image"]["files"] = origin
        _write_text(temporary / EXPLANATION, json_text(content))
        files.append(EXPLANATION)
    return [folder / name / file for file in files]


@contextlib.contextmanager
def _complete_folder(folder: Path, name: str, held: HeldFolder | None) -> Iterator[Path]:
    final = folder / name
    if final.exists() and not _may_replace(final):
        raise OutputError(
            ErrorCode.OUTPUT_EXISTS,
            f"{final} exists and is no result of SaliencyExplain; choose another output folder.",
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


def said_of_file(path: Path) -> tuple[float, tuple[str, ...]]:
    """What the ``explanation.json`` beside a map's file says of it.

    Args:
        path: A map, of this or of any other tool.

    Returns:
        What the map resolves, mm, and the hashes of the segments that are its regions; 0 and
        nothing where no such document speaks of the file.
    """
    try:
        document = json.loads((path.parent / EXPLANATION).read_text(encoding="utf-8"))
        entry = {one["files"]["map"]: one for one in document["attributions"]}[path.name]
        return float(entry[RESOLUTION_MM]), tuple(map(str, entry[EACH_SEGMENT]))
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0, ()


def field_of_view_of_file(path: Path) -> FieldOfView | None:
    """What the network of a map's file saw, as the ``explanation.json`` beside it says.

    Args:
        path: A map, of this or of any other tool.

    Returns:
        None where it saw the whole image, or nothing is known.
    """
    try:
        document = json.loads((path.parent / EXPLANATION).read_text(encoding="utf-8"))
        names = [one["files"]["map"] for one in document["attributions"]]
        return FieldOfView.of(document["provenance"]) if path.name in names else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_attribution(
    stem: Path,
    case: str,
    explanation: Explanation,
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
    probability = float(explanation.probabilities[attribution.target])
    what = f"{attribution.title}{partial}"
    draw_planes(
        stem.with_name(f"{stem.name}.png"),
        np.asarray(explanation.image[attribution.channel]),
        values,
        affine,
        segments=[(segment.name, segment.color, segment.mask) for segment in segments],
        title=f"{case} · {what} · {attribution.target_name} (p = {probability:.2f})",
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


def _attribution_json(
    attribution: Attribution,
    files: Mapping[str, str],
    rows: Sequence[Row],
    image_name: str | None,
) -> dict[str, Any]:
    fields = {field.name: field for field in dataclasses.fields(find_method(attribution.method))}
    unit = length_unit(attribution.affine, attribution.values.shape)
    return {
        "label": attribution.label,
        "method": attribution.method,
        "layer": attribution.layer or None,
        "signed": attribution.signed,
        "share_done": attribution.share_done,
        "budget_seconds": attribution.provenance.get("budget_seconds"),
        "parameters": {
            name: {"value": value, "unit": unit_of(fields[name].metadata, unit) or None}
            for name, value in attribution.parameters.items()
        },
        "device": attribution.provenance["device"],
        RESOLUTION_MM: attribution.resolution_mm,
        EACH_SEGMENT: list(attribution.own_segments),
        CHANNEL: attribution.provenance.get(CHANNEL),
        "figures": attribution.provenance.get("figures", {}),
        "files": dict(files),
        "comparison": [_figures_json(row) for row in rows],
        "provenance": _provenance(attribution, image_name),
    }


def _provenance(attribution: Attribution, image_name: str | None) -> dict[str, Any]:
    """What it takes to make a map again; the figures beside it stand elsewhere.

    Args:
        attribution: The map.
        image_name: What stands for the image's own name; None: that name.
    """
    own = {name: value for name, value in attribution.provenance.items() if name != "figures"}
    return own if image_name is None else own | {"image": image_name}


def _common(provenances: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the provenances of all maps of a case have in common."""
    first = provenances[0] if provenances else {}
    return {
        name: value
        for name, value in first.items()
        if name not in _OF_ONE_MAP
        and all(name in one and one[name] == value for one in provenances)
    }


def _case_json(
    case: str,
    explanation: Explanation,
    maps: Sequence[Mapping[str, Any]],
    segmentation: Segmentation | None,
    rows: Sequence[Row],
) -> dict[str, Any]:
    image = explanation.image
    affine = np.asarray(image.affine, dtype=np.float64)
    provenance = _common([one["provenance"] for one in maps])
    if segmentation is not None:
        provenance["segmentation_sha256"] = segmentation.sha256
    best = int(np.argmax(explanation.probabilities))
    return {
        "case": case,
        "prediction": {
            "predicted": explanation.classes[best],
            "probabilities": dict(
                zip(explanation.classes, map(float, explanation.probabilities), strict=True)
            ),
        },
        "target": {
            "index": explanation.target,
            "name": explanation.classes[explanation.target],
        },
        "image": {
            "channels": int(image.shape[0]),
            "shape": [int(size) for size in image.shape[1:]],
            "spacing_mm": [round(size, 6) for size in spacing_of(affine, image.ndim - 1)],
            "affine_ras_mm": affine.round(6).tolist(),
            "length_unit": length_unit(affine, image.shape[1:]),
        },
        "segments": [segment.name for segment in segmentation.segments] if segmentation else [],
        "attributions": list(maps),
        "yardsticks": [
            {"method": row.method, **_figures_json(row)}
            for row in rows
            if row.method in control_names.NAMES
        ],
        "failures": [dataclasses.asdict(failure) for failure in explanation.failures],
        "notes": list(explanation.notes),
        "provenance": provenance,
        "timings": {name: round(seconds, 4) for name, seconds in explanation.timings.items()},
    }


def _figures_json(row: Row) -> dict[str, Any]:
    content = row.as_json()
    return {key: value for key, value in content.items() if key not in ("case", "method", "target")}


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
