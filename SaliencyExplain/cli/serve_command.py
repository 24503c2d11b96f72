"""``saliency-explain serve``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import say_notes
from SaliencyExplain.cli.spec_options import spec_options
from SaliencyExplain.errors import ErrorCode, InputError
from SaliencyExplain.private_folder import PrivateFolder
from SaliencyExplain.specification.spec import ExplainSpec


@spec_options("memory")
def serve(
    spec: ExplainSpec,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 0,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the token that every request must carry; created if missing. By "
            "default a new file in the temporary folder.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[Path],
        typer.Option(
            help="A folder whose files jobs may read, repeatable; by default none.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  Typer copies it for each call
    trust: Annotated[
        bool,
        typer.Option(
            "--trust", help="Run code that comes with a classifier where a request asks for it."
        ),
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate for https.", show_default=False)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key.", show_default=False)] = None,
    allow_host: Annotated[
        list[str],
        typer.Option(help="An additional host name of the engine, repeatable."),
    ] = [],  # noqa: B006
    max_upload: Annotated[
        int, typer.Option(min=1, metavar="MIB", help="Largest upload, and what it unpacks to.")
    ] = 2048,
    device: options.Device = "auto",
    end_with_stdin: Annotated[
        bool,
        typer.Option(
            "--end-with-stdin",
            help=(
                "Stop when standard input closes and no job is running; for programs that start "
                "the engine."
            ),
        ),
    ] = False,
) -> None:
    """Run an engine for panels and pages; prints its address as one line of JSON."""
    if (tls_cert is None) != (tls_key is None):
        raise InputError(
            ErrorCode.OPTION_MISSING, "--tls-cert and --tls-key go together: give both or neither."
        )
    from SaliencyExplain.engine.queue.allowed_paths import AllowedPaths
    from SaliencyExplain.engine.server.auth import is_loopback

    # These errors are reported before torch is loaded.
    AllowedPaths(data)
    from SaliencyExplain.engine.queue.local_engine import LocalEngine
    from SaliencyExplain.engine.server.server_process import Watch
    from SaliencyExplain.engine.server.server_process import serve as answer
    from SaliencyExplain.engine.server.tokens import make_token, token_in
    from SaliencyExplain.engine.server.uploads import Uploads
    from SaliencyExplain.images.apart import read_apart

    if not is_loopback(host) and tls_cert is None:
        say_notes(
            [
                f"{host} can be reached by others; without --tls-cert images and the token are "
                "sent unencrypted."
            ]
        )
    with PrivateFolder("engine") as folder:
        path = (token_file or folder / "token").absolute()
        token = token_in(path) if path.exists() else make_token(path)
        watch = Watch() if end_with_stdin else None
        read_apart()
        engine = LocalEngine(device, data=data, trust=trust, memory_bytes=spec.limits.memory_bytes)

        def say(address: str) -> None:
            print(json.dumps({"address": address, "token_file": str(path)}), flush=True)
            # This is the only line on standard output; programs that start the engine read no more.
            sys.stdout = sys.stderr

        answer(
            engine,
            token=token,
            uploads=Uploads(folder, max_upload * 1024**2),
            ready=say,
            host=host,
            port=port,
            names=allow_host,
            certificate=tls_cert,
            key=tls_key,
            watch=watch,
        )
