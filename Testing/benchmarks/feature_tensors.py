"""Which tensor Grad-CAM takes of public networks, and why: writes ``docs/FEATURE-MAPS.md``.

    python -m Testing.benchmarks.feature_tensors [--names tv:resnet18 monai:resnet18] [--out FILE]

Networks of torchvision, timm and MONAI with random weights and small inputs; nothing is
downloaded. One forward pass each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from SaliencyExplain.attribution.graph.feature_tensors import Structure
from SaliencyExplain.attribution.graph.network_structure import analyse
from SaliencyExplain.attribution.network.score_network import ScoreNetwork
from SaliencyExplain.errors import SaliencyExplainError
from Testing.public_networks import STRUCTURE_TABLE, public_network

PAGE = Path(__file__).parents[2] / "docs" / "FEATURE-MAPS.md"


@dataclass(frozen=True)
class Row:
    """A network and what is taken of it.

    Attributes:
        network: Library and name.
        size: Voxels of the input.
        tensor: What is taken; empty: it is refused.
        why: The reason in words.
    """

    network: str
    size: str
    tensor: str
    why: str


def why(structure: Structure) -> str:
    """The reason why these tensors are taken, in words."""
    first = structure.targets[0]
    if len(structure.targets) > 1:
        return "no single tensor lies on every path: one on each, their maps are summed"
    if first.layout.has_tokens:
        return "the last tensor whose tokens with a place reach what the classifier reads"
    what = f"{first.layout.kind}; the last tensor with a grid on every path to the scores"
    return f"{what}, no layer's output" if first.calls else what


def row(name: str) -> Row:
    """What is taken of a network."""
    public = public_network(name)
    network, shape = public.build(), (1, public.channels, *public.shape)
    size = " x ".join(map(str, public.shape))
    try:
        structure = analyse(ScoreNetwork(network), torch.randn(shape))
    except SaliencyExplainError as error:
        return Row(name, size, "", f"no classifier: {str(error).splitlines()[0]}")
    if not structure.targets:
        return Row(
            name,
            size,
            "",
            "refused: no tensor with a grid lies on every path, as far as "
            "its layouts are understood",
        )
    told = "; ".join(
        f"`{spot.name}` ({' x '.join(map(str, spot.layout.counts))})" for spot in structure.targets
    )
    return Row(name, size, told, why(structure))


def page(rows: Sequence[Row]) -> str:
    """The page with a table of the rows."""
    lines = [
        "# Which tensor the class activation methods take",
        "",
        "Made by `python -m Testing.benchmarks.feature_tensors` with random weights: do not edit. "
        "`gradcam`, `gradcam++`, `cam`, `scorecam`, `respondcam` and `guided-gradcam` use it by "
        "default (`cam` only if its mean goes directly into the last linear layer). A name that "
        "ends in `()` is the result of a function in the forward method of that layer, not the "
        "output of a layer. For refused networks use occlusion and the gradient methods.",
        "",
        f"{len(rows)} networks, {sum(not one.tensor for one in rows)} of them refused.",
        "",
        "| network | input | tensor (cells) | why |",
        "|---|---|---|---|",
        *(f"| {r.network} | {r.size} | {r.tensor or '-'} | {r.why} |" for r in rows),
    ]
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> list[Row]:
    """Analyses the networks and writes the page.

    Args:
        words: The command line; None: the process's own.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--names", nargs="+", choices=STRUCTURE_TABLE, default=STRUCTURE_TABLE)
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args(words)
    rows = []
    for name in options.names:
        rows.append(row(name))
        print(f"{rows[-1].network}: {rows[-1].tensor or rows[-1].why}", flush=True)
    options.out.write_text(page(rows), encoding="utf-8")
    return rows


if __name__ == "__main__":
    main()
