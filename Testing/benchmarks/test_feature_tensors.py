"""The table of the tensors that class activation methods take, on a few networks."""

from __future__ import annotations

import pytest

from Testing.benchmarks.feature_tensors import PAGE, main
from Testing.public_networks import STRUCTURE_TABLE


def test_the_table_names_the_tensor_and_the_reason(timm, tmp_path):
    page = tmp_path / "page.md"
    chosen = ["tv:densenet121", "timm:convnext_atto", "monai:DenseNet121", "timm:crossvit_tiny_240"]
    rows = {row.network: row for row in main(["--names", *chosen, "--out", str(page)])}
    assert rows["tv:densenet121"].tensor == "`relu()` (3 x 3)"
    assert rows["timm:convnext_atto"].tensor == "`stages.3.blocks.1` (3 x 3)"
    assert rows["monai:DenseNet121"].tensor == "`class_layers.relu` (2 x 2 x 2)"
    assert not rows["timm:crossvit_tiny_240"].tensor
    text = page.read_text()
    for row in rows.values():
        assert f"| {row.network} | {row.size} | {row.tensor or '-'} | {row.why} |" in text


@pytest.mark.parametrize("name", STRUCTURE_TABLE)
def test_the_page_has_a_row_of_each_network(name):
    assert f"\n| {name} | " in PAGE.read_text()
