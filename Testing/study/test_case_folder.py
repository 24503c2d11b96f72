from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor
from monai.networks.nets import DenseNet
from PIL import Image

from SaliencyExplain.attribution.method_selection import select_methods
from SaliencyExplain.attribution.registry import find_method
from SaliencyExplain.comparison.table import rows
from SaliencyExplain.errors import ErrorCode
from SaliencyExplain.explanation.compute import Compute
from SaliencyExplain.explanation.explain import explain
from SaliencyExplain.explanation.loaded_references import LoadedReferences
from SaliencyExplain.explanation.prepared_case import prepare
from SaliencyExplain.images.reading import read_image
from SaliencyExplain.images.segmentation import Segmentation, read_segmentation
from SaliencyExplain.models.classifier import Classifier
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.wrapping import wrap
from SaliencyExplain.records.case_record import EXPLANATION
from SaliencyExplain.results.image_explanation import Explanation
from SaliencyExplain.specification.spec import Limits
from SaliencyExplain.studies.case_folder import write_case
from Testing.expected_errors import error_with
from Testing.study.conftest import NETWORK, make_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("case"), 1)


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Classifier:
    """A classifier with a class whose name is no file name."""
    torch.manual_seed(3)
    bundle = wrap(
        "monai.networks.nets.DenseNet",
        DenseNet(**NETWORK).state_dict(),
        ["none", "../Läsion / WHO 4"],
        folder / "bundle",
        network_args=NETWORK,
        intensity="zscore",
    )
    return load_classifier(bundle)


@pytest.fixture(scope="module")
def image(folder: Path) -> MetaTensor:
    return read_image(folder / "P1_image.nii.gz")


@pytest.fixture(scope="module")
def explained(
    folder: Path, image: MetaTensor, classifier: Classifier
) -> tuple[Explanation, Segmentation]:
    explanation = explain(
        prepare(image, classifier, "1", compute=Compute("cpu")), [find_method("gradcam")()]
    )
    return explanation, read_segmentation(folder / "P1_mask.nii.gz", image)


def test_any_class_name_makes_a_file_in_the_cases_folder(
    explained: tuple[Explanation, Segmentation], image: MetaTensor, tmp_path: Path
) -> None:
    explanation, segmentation = explained
    record = write_case(tmp_path / "out", "P/1", explanation, image, segmentation=segmentation)
    files = [tmp_path / "out" / "P_1" / name for name in record.file_names]
    assert {file.parent for file in files} == {tmp_path / "out" / "P_1"}
    assert all(file.is_file() for file in files)
    label = explanation.attributions[0].label
    assert label.startswith("gradcam@")
    assert files[0].name == f"{label}-Läsion_WHO_4.nii.gz"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["P_1"]


def test_map_bands_and_picture_are_of_the_image(
    explained: tuple[Explanation, Segmentation], image: MetaTensor, tmp_path: Path
) -> None:
    explanation, segmentation = explained
    record = write_case(tmp_path, "P1", explanation, image, segmentation=segmentation)
    map_file, bands_file, picture, _ = (tmp_path / "P1" / name for name in record.file_names)
    written = nibabel.load(map_file)
    np.testing.assert_array_equal(written.get_fdata(), explanation.attributions[0].values)
    np.testing.assert_allclose(written.affine, image.affine.numpy())
    assert SimpleITK.ReadImage(str(bands_file)).GetSize() == tuple(image.shape[1:])
    assert Image.open(picture).format == "PNG"


def test_the_explanation_says_what_it_takes_to_do_it_again(
    explained: tuple[Explanation, Segmentation], image: MetaTensor, tmp_path: Path
) -> None:
    explanation, segmentation = explained
    map_ = explanation.attributions[0]
    name = explanation.classes[1]
    compared = rows(
        "P1", name, {map_.label: map_.values}, segmentation, map_.affine, control_maps=True
    )
    write_case(tmp_path, "P1", explanation, image, segmentation=segmentation, rows=compared)
    content = json.loads((tmp_path / "P1" / EXPLANATION).read_text(encoding="utf-8"))
    assert content["target"] == {"index": 1, "name": name}
    assert sum(content["prediction"]["probabilities"].values()) == pytest.approx(1)
    assert content["provenance"]["image"] == "P1"
    assert content["provenance"]["image_sha256"] == map_.provenance["image_sha256"]
    assert set(content["provenance"]["versions"]) >= {"SaliencyExplain", "torch", "monai"}
    assert content["attributions"][0]["comparison"][0]["auroc"] == compared[0].agreement.auroc
    assert [row["method"] for row in content["control_maps"]] == ["random", "centre"]
    kept = write_case(tmp_path, "P1", explanation, image, keep_identifiers=True)
    assert kept.provenance["image"] == "P1_image"


def test_each_map_has_a_provenance_of_its_own(
    classifier: Classifier,
    explained: tuple[Explanation, Segmentation],
    image: MetaTensor,
    tmp_path: Path,
) -> None:
    _, segmentation = explained
    maps = explain(
        prepare(
            image,
            classifier,
            "1",
            compute=Compute("cpu", Limits(precision="bfloat16")),
            references=LoadedReferences(segmentation),
        ),
        select_methods(["gradient", "shapley"], ["shapley.regions=segments"]),
    )
    write_case(tmp_path, "P1", maps, image, segmentation=segmentation)
    content = json.loads((tmp_path / "P1" / EXPLANATION).read_text(encoding="utf-8"))
    first, second = (one["provenance"] for one in content["attributions"])
    assert (first["precision"], second["precision"]) == ("bfloat16", "float32")
    assert "segments_sha256" not in first
    assert second["segments_sha256"] == segmentation.sha256
    assert second["image"] == "P1"
    # What is said of the case is true of each map.
    common = content["provenance"]
    assert common["segmentation_sha256"] == segmentation.sha256
    assert not {"precision", "segments_sha256"} & set(common)
    assert all(first[name] == common[name] for name in set(common) - {"segmentation_sha256"})


def test_the_hash_of_a_segmentation_is_of_its_names_and_voxels(
    explained: tuple[Explanation, Segmentation],
) -> None:
    explanation, segmentation = explained
    map_ = explanation.attributions[0]

    def hashes(held: Segmentation) -> set[str]:
        found = rows("P1", "x", {map_.label: map_.values}, held, map_.affine)
        return {row.segmentation_sha256 for row in found}

    first = segmentation.segments[0]
    renamed = replace(segmentation, segments=(replace(first, name="other"),))
    mask = first.mask.copy()
    mask.flat[0] = not mask.flat[0]
    changed = replace(segmentation, segments=(replace(first, mask=mask),))
    assert len(hashes(segmentation) | hashes(renamed) | hashes(changed)) == 3


def test_results_are_replaced_and_foreign_folders_are_not(
    explained: tuple[Explanation, Segmentation], image: MetaTensor, tmp_path: Path
) -> None:
    explanation, _ = explained
    first = write_case(tmp_path, "P1", explanation, image)
    (tmp_path / "P1" / "left over.txt").write_text("of an earlier run")
    assert write_case(tmp_path, "P1", explanation, image) == first
    assert not (tmp_path / "P1" / "left over.txt").exists()
    (tmp_path / "P2").mkdir()
    (tmp_path / "P2" / "scan.nii.gz").write_bytes(b"the user's")
    with error_with(ErrorCode.OUTPUT_EXISTS, "P2"):
        write_case(tmp_path, "P2", explanation, image)
    assert (tmp_path / "P2" / "scan.nii.gz").read_bytes() == b"the user's"
