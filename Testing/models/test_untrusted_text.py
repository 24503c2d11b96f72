"""JSON and YAML of an untrusted bundle: nothing is built or run by reading it, and it ends."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from SaliencyExplain.models.loading import load_classifier
from Testing.models.bundles import INFERENCE, METADATA
from Testing.models.listening import REFUSED, UNTRUSTED, WRONG, refusal
from Testing.models.listening import bundle as bundle
from Testing.models.listening import nothing_happens as nothing_happens
from Testing.models.listening import original as original


def test_one_key_twice_is_refused(bundle, nothing_happens) -> None:
    text = (bundle / INFERENCE).read_text()
    twice = text.replace(
        '"_target_": "monai.networks.nets.DenseNet"',
        '"_target_": "os.system", "_target_": "monai.networks.nets.DenseNet"',
    )
    assert twice != text
    (bundle / INFERENCE).write_text(twice)
    error = refusal(bundle)
    assert error.code is WRONG
    assert "_target_" in str(error)
    (bundle / INFERENCE).unlink()
    (bundle / "configs/inference.yaml").write_text("a: {b: 1, b: 2}\n")
    error = refusal(bundle)
    assert error.code is WRONG
    assert "'b'" in str(error)


def bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 12):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("network_def: !!python/object/apply:os.system ['touch MARK']", WRONG),
        ("network_def: !!python/name:os.system", WRONG),
        ("network_def: !!python/module:antigravity", WRONG),
        ("network_def: !!python/object/new:subprocess.Popen [['touch', 'MARK']]", WRONG),
        ("network_def: !os.system 'touch MARK'", WRONG),
        (bomb(), REFUSED),
        ("network_def: &a\n  x: *a\n", REFUSED),
        ("network_def: &a [*a]", REFUSED),
        (f"network_def: {'[' * 3000}{']' * 3000}", WRONG),
        (f"network_def: {'[' * 100}{']' * 100}", REFUSED),
        (f"network_def: {'9' * 5000}", WRONG),
        ("network_def: {_target_: torch.nn.Linear, in_features: 2020-01-01}", WRONG),
        ("network_def: {_target_: torch.nn.Linear, in_features: !!binary aGk=}", REFUSED),
        ("network_def: {_target_: torch.nn.Linear, 3: 1}", REFUSED),
        ("network_def: {_target_: torch.nn.Linear, ? [a, b] : 1}", WRONG),
        (
            "a: &a {_disabled_: \"$__import__('os').system('touch MARK')\"}\n"
            "network_def: {_target_: torch.nn.Linear, <<: *a}",
            UNTRUSTED,
        ),
    ],
)
def test_yaml_builds_nothing_and_no_endless_tree(bundle, nothing_happens, text, code) -> None:
    (bundle / INFERENCE).unlink()
    (bundle / "configs/inference.yaml").write_text(text.replace("MARK", str(nothing_happens)))
    assert refusal(bundle).code is code


def test_yaml_may_still_use_anchors(bundle, image) -> None:
    expected = load_classifier(bundle).predict(image)
    content = json.loads((bundle / INFERENCE).read_text())
    (bundle / INFERENCE).unlink()
    text = yaml.safe_dump(content)
    text = text.replace("network: '@network_def'", "shared: &one {out_channels: 3}\nnetwork: '@x'")
    text = text.replace("  out_channels: 3\n", "  <<: *one\n")
    lines = text.splitlines()
    anchor = next(number for number, line in enumerate(lines) if "&one" in line)
    lines.insert(0, lines.pop(anchor))
    (bundle / "configs/inference.yaml").write_text("\n".join(lines))
    np.testing.assert_array_equal(load_classifier(bundle).predict(image), expected)


@pytest.mark.parametrize("name", [INFERENCE, METADATA])
@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f'{{"network_def": {"[" * 100000}{"]" * 100000}}}', WRONG),
        (f'{{"network_def": {"[" * 300}{"]" * 300}}}', REFUSED),
        (f'{{"network_def": [{"0," * 200000}0]}}', REFUSED),
        (f'{{"network_def": {"9" * 5000}}}', WRONG),
    ],
)
def test_json_of_endless_depth_or_size_is_refused(
    bundle, nothing_happens, name, text, code
) -> None:
    (bundle / name).write_text(text)
    error = refusal(bundle)
    assert error.code is code
    assert name in str(error)
