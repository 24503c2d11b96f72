"""``saliency-explain view``."""

from __future__ import annotations

import importlib.util
import json
import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import aside, say_notes
from SaliencyExplain.errors import ErrorCode, InputError


def view(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE]...",
            help="Images to open; name=path says which of the classifier's channels one is.",
            show_default=False,
        ),
    ] = None,
    classifier: options.ClassifierPathOrNone = None,
    segmentation: Annotated[
        Path | None,
        typer.Option(
            "--segmentation",
            "-s",
            help="A segmentation to compare with, on any grid.",
            show_default=False,
        ),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(help="The output folder of a finished study.", show_default=False),
    ] = None,
    data: Annotated[
        list[Path],
        typer.Option(
            help="A folder in which the page may open files, repeatable.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  Typer copies it for each call
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 0,
    allow_host: Annotated[
        list[str],
        typer.Option(help="An additional host name of the page, repeatable."),
    ] = [],  # noqa: B006
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address and do not open a browser.")
    ] = False,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address of an engine on another machine (`saliency-explain serve`); the "
            "environment's "
            "SALIENCY_EXPLAIN_TOKEN_FILE names the file of its token.",
            show_default=False,
        ),
    ] = None,
    trust: options.Trust = False,
    device: options.Device = "auto",
) -> None:
    """View images, maps and studies in a browser, and click to explain."""
    if importlib.util.find_spec("trame_slicer") is None:
        raise InputError(
            ErrorCode.PACKAGE_MISSING,
            "The viewer needs further packages: pip install '.[viewer]' in the project's folder.",
        )
    from SaliencyExplain.engine.client.http_client import RemoteEngine
    from SaliencyExplain.engine.interface import Engine
    from SaliencyExplain.engine.queue.local_engine import LocalEngine
    from SaliencyExplain.engine.server.tokens import token_in
    from SaliencyExplain.images.apart import read_apart
    from SaliencyExplain.images.input_file import check_exists
    from SaliencyExplain.scene.opengl import check_opengl
    from SaliencyExplain.viewer.page_auth import warn_of
    from SaliencyExplain.viewer.page_server import serve
    from SaliencyExplain.viewer.page_settings import Settings

    opened = tuple(options.named_path(text) for text in images or [])
    for path in (
        *(path for _, path in opened),
        *(path for path in (classifier, segmentation, study) if path is not None),
        *data,
    ):
        check_exists(path)
    check_opengl()
    if warning := warn_of(host):
        say_notes([warning])
    read_apart()
    computes: Engine
    if engine is None:
        computes = LocalEngine(device, trust=trust)
    else:
        token_file = os.environ.get("SALIENCY_EXPLAIN_TOKEN_FILE")
        if not token_file:
            raise InputError(
                ErrorCode.OPTION_MISSING,
                "SALIENCY_EXPLAIN_TOKEN_FILE must name the file that holds the engine's token.",
            )
        computes = RemoteEngine(engine, token_in(Path(token_file)))

    def say(address: str) -> None:
        print(json.dumps({"address": address}), flush=True)
        aside.print("The viewer runs until Ctrl-C. Keep the address private: it contains the key.")
        if not no_browser:
            webbrowser.open(address)

    serve(
        computes,
        Settings(
            images=opened,
            classifier=classifier,
            segmentation=segmentation,
            study=study,
            data=tuple(data),
            host=host,
            port=port,
            names=tuple(allow_host),
            trust=trust,
        ),
        say,
    )
