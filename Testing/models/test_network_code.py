"""The code of a user's network goes into a bundle with all that it imports beside it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from SaliencyExplain.errors import ClassifierError, ErrorCode, InputError
from SaliencyExplain.models.loading import load_classifier
from SaliencyExplain.models.wrapping import wrap

BLOCK = """
from torch import nn
def block(): return nn.Sequential(nn.Conv2d(1, WIDTH, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
WIDTH = 4
"""
NETWORK = """
import torch
from torch import nn
{imports}
class Network(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.body = {block}()
        self.head = nn.Linear(4, classes)
    def forward(self, images):
        return self.head(self.body(images))
def factory(classes=2):
    return Network(classes)
"""


def network() -> nn.Module:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.head = nn.Linear(4, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(self.body(images))

    torch.manual_seed(5)
    return Plain().eval()


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def code(imports: str, block: str = "block") -> str:
    return NETWORK.format(imports=imports, block=block)


#: Files by name, the one of the network first.
LAYOUTS: dict[str, dict[str, str]] = {
    "alone": {"net.py": BLOCK + code("")},
    "a module beside it": {"net.py": code("from blocks import block"), "blocks.py": BLOCK},
    "a module of a module": {
        "net.py": code("import parts.blocks as b", "b.block"),
        "parts/blocks.py": "from widths import WIDTH\n" + BLOCK.replace("WIDTH = 4", ""),
        "widths.py": "WIDTH = 4",
    },
    "a package, relative": {
        "mynets/zoo/net.py": code("from ..common.blocks import block"),
        "mynets/__init__.py": "",
        "mynets/zoo/__init__.py": "from .net import Network",
        "mynets/common/__init__.py": "",
        "mynets/common/blocks.py": BLOCK,
    },
    "a package, absolute": {
        "mynets/net.py": code("import mynets.blocks", "mynets.blocks.block"),
        "mynets/__init__.py": "",
        "mynets/blocks.py": BLOCK,
    },
    "relative without __init__": {
        "mynets/zoo/net.py": code("from ..blocks import block"),
        "mynets/blocks.py": BLOCK,
    },
    "from the root of a repository": {
        "models/net.py": code("from models.blocks import block\nfrom helpers import helper"),
        "models/blocks.py": BLOCK,
        "helpers/__init__.py": "",
        "helpers/helper.py": "x = 1",
    },
    "a package named scripts": {
        "scripts/net.py": code("from scripts.blocks import block"),
        "scripts/__init__.py": "",
        "scripts/blocks.py": BLOCK,
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("made_by", ["Network", "factory"])
def test_the_bundle_predicts_where_the_code_is_no_more(name, made_by, tmp_path) -> None:
    files = LAYOUTS[name]
    source = written(tmp_path / "code", {**files, "secret.py": "x = 1", "data.txt": "x"})
    plain = network()
    bundle = wrap(
        f"{source / next(iter(files))}:{made_by}",
        plain.state_dict(),
        ["a", "b"],
        tmp_path / "bundle",
        size=[8, 8],
        trust=True,
    )
    source.rename(tmp_path / "elsewhere")
    before = dict(sys.modules)
    classifier = load_classifier(bundle, trust=True)
    noise = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(classifier.network(noise), plain(noise), atol=1e-6, rtol=0)
    copied = {path.name for path in bundle.rglob("*") if path.is_file()}
    assert not {"secret.py", "data.txt"} & copied
    for module in ("blocks", "widths", "parts", "mynets", "models", "helpers"):
        assert sys.modules.get(module) is before.get(module)
    with pytest.raises(ClassifierError):
        load_classifier(bundle)


def test_each_bundle_imports_its_own_modules(tmp_path, monkeypatch) -> None:
    other = ModuleType("blocks")
    monkeypatch.setitem(sys.modules, "blocks", other)
    found = []
    for width in (3, 5):
        source = written(
            tmp_path / str(width),
            {
                "net.py": code("from blocks import block").replace("(4,", f"({width},"),
                "blocks.py": BLOCK.replace("WIDTH = 4", f"WIDTH = {width}"),
            },
        )
        state = {
            "body.0.weight": torch.rand(width, 1, 3, 3),
            "body.0.bias": torch.rand(width),
            "head.weight": torch.rand(2, width),
            "head.bias": torch.rand(2),
        }
        bundle = wrap(
            f"{source / 'net.py'}:Network", state, ["a", "b"], source / "b", size=[8, 8], trust=True
        )
        found.append(load_classifier(bundle, trust=True).network.network.body[0].out_channels)
    assert found == [3, 5]
    assert sys.modules["blocks"] is other


def refusal(folder: Path, files: dict[str, str], **options: Any) -> ClassifierError | InputError:
    source = written(folder / "code", files)
    with pytest.raises((ClassifierError, InputError)) as error:
        wrap(
            f"{source / next(iter(files))}:Network",
            network().state_dict(),
            ["a", "b"],
            folder / "bundle",
            size=[8, 8],
            **{"trust": True, **options},
        )
    assert not (folder / "bundle").exists()
    return error.value


@pytest.mark.parametrize(
    ("files", "options", "refused", "named"),
    [
        ({"net.py": "x = 1"}, {"trust": False}, ErrorCode.MODEL_UNTRUSTED, "net.py"),
        ({"my-net.py": "x = 1"}, {}, ErrorCode.VALUE_FORM, "my-net.py"),
        ({"net.py": "def ("}, {}, ErrorCode.FILE_FORMAT, "line 1"),
        (
            {"net.py": "from yaml import block", "yaml.py": BLOCK},
            {},
            ErrorCode.NAME_DUPLICATE,
            "yaml",
        ),
        (
            {"net.py": "import random", "random.py": ""},
            {},
            ErrorCode.NAME_DUPLICATE,
            "random",
        ),
        (
            {"net.py": code("from missing import block")},
            {},
            ErrorCode.MODEL_CONFIGURATION,
            "missing",
        ),
        ({"net.py": "x = 1"}, {}, ErrorCode.MODEL_CONFIGURATION, "Network"),
    ],
)
def test_code_that_cannot_go_into_a_bundle_is_refused(
    tmp_path, files, options, refused, named
) -> None:
    error = refusal(tmp_path, files, **options)
    assert error.code is refused
    assert named in str(error)
