"""Options of commands are made from the descriptions of a specification's fields."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from SaliencyExplain.cli.main import application
from SaliencyExplain.cli.spec_options import spec_options
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.specification.parameters import NOTHING
from SaliencyExplain.specification.spec import ExplainSpec, Limits, MethodChoice
from SaliencyExplain.specification.target import CLASS, Target

LIMITS = [field.name for field in dataclasses.fields(Limits)]
#: The limits that each command which computes has a use for.
OF_COMMANDS = {
    ("explain",): LIMITS,
    ("study",): ["memory", "precision", "batch_size", "passes"],
    ("evaluate", "image"): ["memory", "precision", "batch_size", "passes"],
    ("probe",): ["memory", "batch_size"],
    ("serve",): ["memory"],
    ("predict",): [],
}


def spec_of(*words: str) -> ExplainSpec:
    """What a command is given for these words."""
    given: list[ExplainSpec] = []

    @spec_options("methods", "target", "seed", "segmentation", "backgrounds", *LIMITS)
    def command(spec: ExplainSpec) -> None:
        given.append(spec)

    alone = typer.Typer()
    alone.command()(command)
    typer.main.get_command(alone).main(list(words), standalone_mode=False)
    return given[0]


def options_of(words: tuple[str, ...]) -> dict[str, Any]:
    command: Any = typer.main.get_command(application)
    for word in words:
        command = command.commands[word]
    return {option: one for one in command.params for option in one.opts}


@pytest.mark.parametrize(("words", "limits"), OF_COMMANDS.items())
def test_a_command_has_the_limits_that_it_has_a_use_for_as_they_are_described(words, limits):
    options = options_of(words)
    fields = {field.name: field for field in dataclasses.fields(Limits)}
    for name in LIMITS:
        option = f"--{name.replace('_', '-')}"
        assert (option in options) == (name in limits)
        if name in limits:
            described = fields[name].metadata
            assert options[option].help.startswith(described["description"])
            if options[option].default is None:
                assert options[option].help.endswith(f"By default {described[NOTHING]}.")
            if described["choices"]:
                assert options[option].metavar == "|".join(described["choices"])


def test_without_an_option_a_command_has_the_specifications_defaults() -> None:
    assert spec_of() == ExplainSpec()


def test_options_are_read_with_their_units() -> None:
    spec = spec_of(
        "-m", "occlusion,gradcam", "--set", "occlusion.window_mm=1.5cm", "-t", "glioma",
        "--seed", "7", "--memory", "4GB", "--precision", "bfloat16", "--batch-size", "3",
        "--seconds", "2min", "--passes", "500 passes", "-s", "a.nrrd", "--background", "b",
        "--background", "c",
    )  # fmt: skip
    assert spec.methods == (
        MethodChoice("occlusion", {"window_mm": 15.0}),
        MethodChoice("gradcam"),
    )
    assert (spec.target, spec.seed) == (Target(CLASS, "glioma"), 7)
    assert spec.limits == Limits(4.0 * 1024**3, "bfloat16", 3, 120.0, 500.0)
    assert spec.references.segmentation == "a.nrrd"
    assert spec.references.backgrounds == ("b", "c")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--memory", "4"), ErrorCode.VALUE_FORM),
        (("--seconds", "2kg"), ErrorCode.VALUE_FORM),
        (("--seconds", "-1"), ErrorCode.VALUE_RANGE),
        (("--seconds", "nan"), ErrorCode.VALUE_RANGE),
        (("--passes", "0"), ErrorCode.VALUE_RANGE),
        (("--precision", "bf16"), ErrorCode.NAME_UNKNOWN),
        (("--batch-size", "0"), ErrorCode.VALUE_RANGE),
        (("--batch-size", "1.5"), ErrorCode.VALUE_FORM),
        (("--seed", "-1"), ErrorCode.VALUE_RANGE),
        (("--seed", "9" * 100), ErrorCode.VALUE_RANGE),
        (("--set", "lime.samples=3"), ErrorCode.OPTION_CONFLICT),
        (("--layer", "x"), ErrorCode.OPTION_CONFLICT),
        (("--target", ""), ErrorCode.VALUE_FORM),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_option(words, code) -> None:
    with pytest.raises(InputError) as error:
        spec_of(*words)
    assert error.value.code is code
    assert words[0].lstrip("-") in str(error.value)
    assert len(str(error.value)) < 400


def test_a_required_option_is_required() -> None:
    ended = CliRunner().invoke(application, ["explain", "x.nii", "-c", "y", "-o", "z"])
    assert ended.exit_code == 2
    assert "--method" in ended.output
