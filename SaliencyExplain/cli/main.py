"""The command ``saliency-explain``."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from SaliencyExplain import __version__
from SaliencyExplain.cli import (
    compare_command,
    demo_command,
    evaluate_image_command,
    evaluate_study_command,
    explain_command,
    messages,
    methods_command,
    model_commands,
    predict_command,
    probe_command,
    serve_command,
    study_command,
    view_command,
)
from SaliencyExplain.cli.completion import colons_for_bash
from SaliencyExplain.cli.standard_streams import run_with_streams

application = typer.Typer(
    name="saliency-explain",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@application.callback()
def _describe(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help=("Print the version.")
        ),
    ] = False,
) -> None:
    """Attribution maps of medical image classifiers, and their evaluation."""


application.command("demo")(demo_command.demo)
application.command("methods")(methods_command.methods)
application.add_typer(model_commands.application, name="model")
application.command("predict")(predict_command.predict)
application.command("explain")(explain_command.explain)
application.command("probe")(probe_command.probe)
application.command("compare")(compare_command.compare)
evaluation = typer.Typer(
    no_args_is_help=True, help="Evaluate the maps of an image, or those of a finished study."
)
evaluation.command("image")(evaluate_image_command.evaluate_image)
evaluation.command("study")(evaluate_study_command.evaluate_study)
application.add_typer(evaluation, name="evaluate")
application.command("study")(study_command.study)
application.command("serve")(serve_command.serve)
application.command("view")(view_command.view)


def main() -> None:
    """Entry point of the console script."""
    # OpenMP's threads otherwise spin while they wait; next to a busy process this made two of them
    # two to six times slower. Read when torch is loaded, so set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    sys.exit(run_with_streams(_run))


def _run() -> int:
    with colons_for_bash():
        return messages.run(application)


if __name__ == "__main__":
    main()
