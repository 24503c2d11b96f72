"""The table of networks: small networks of each library, and what is known of them beforehand."""

from __future__ import annotations

import json
import re

import pytest

from SaliencyExplain.attribution.registry import methods
from SaliencyExplain.errors import ErrorCode
from Testing.benchmarks.model_table import (
    BEGIN,
    END,
    PAGE,
    main,
    reason_of,
    row,
    table,
    with_table,
)
from Testing.public_networks import NAMES

#: Quick ones of each library.
FEW = (
    *("tv:resnet18", "tv:mobilenet_v3_small"),
    *("timm:convnext_atto", "timm:ghostnet_100", "timm:vit_tiny_patch16_224"),
    *("monai:Classifier", "monai:ResNet10", "monai:ResNet18-2D", "monai:ViT"),
    *("transformers:ViT", "transformers:ConvNext"),
    *("nnunet:PlainConvEncoder", "nnunet:ResidualEncoder", "torchxrayvision:DenseNet"),
)
LIBRARIES = {"nnunet": "dynamic_network_architectures", "torchxrayvision": "torchxrayvision"}


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_a_public_network_predicts_as_its_own_code_and_every_method_gives_a_map_or_a_reason(
    timm, name
):
    pytest.importorskip(LIBRARIES.get(name.partition(":")[0], "timm"))
    found = row(name)
    assert found.way, found.refused
    assert found.difference == pytest.approx(0, abs=1e-5)
    assert sorted([*found.passes, *found.refused]) == sorted(methods())
    for method, refusal in found.refused.items():
        code = refusal.partition(":")[0]
        assert code in {one.value for one in ErrorCode} - {ErrorCode.JOB_FAILED.value}, method
    for method in ("occlusion", "gradient", "integrated-gradients", "xrai", "kernel-shap"):
        assert method in found.passes


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"Before\n{BEGIN}\nold\n{END}\nAfter\n")
    kept = tmp_path / "rows.json"
    words = ["--threads", "1", "--json", str(kept), "--page", str(page), "--names"]
    main([*words, "monai:Classifier"])
    document = json.loads(kept.read_text())
    document["rows"][0]["difference"] = 0.25  # shows that it is not computed again
    kept.write_text(json.dumps(document))
    rows = main([*words, "monai:Classifier", "monai:ViT"])
    assert [one.network for one in rows] == ["monai:Classifier", "monai:ViT"]
    assert rows[0].difference == 0.25
    text = page.read_text()
    assert text == with_table(text, table(rows))
    assert text.startswith("Before\n")
    assert text.endswith("After\n")
    assert "old" not in text


def test_a_reason_does_not_name_the_network_or_layer():
    refusal = (
        "SE-METHOD-NETWORK: lrp has no rule for the layer 'a.b' (matmul) of this network. Use "
        "occlusion instead."
    )
    assert reason_of(refusal) == (
        "lrp has no rule for the layer (matmul) of this network (SE-METHOD-NETWORK)"
    )


def test_a_page_without_a_place_for_the_table_is_left(tmp_path):
    with pytest.raises(ValueError, match="no lines"):
        with_table("a page", "a table")


def test_the_page_has_a_row_of_each_network_and_no_fault():
    text = PAGE.read_text().partition(BEGIN)[2]
    rows = re.findall(r"^\| (\S+:\S+) \|", text, flags=re.MULTILINE)
    assert set(rows) == set(NAMES)
    assert ErrorCode.JOB_FAILED.value not in text
