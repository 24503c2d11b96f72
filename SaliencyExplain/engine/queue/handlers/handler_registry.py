"""The handler of each kind of request."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any

from SaliencyExplain.engine.queue import handlers as package
from SaliencyExplain.engine.queue.handlers.handler import Handler
from SaliencyExplain.engine.wire.request_base import Request
from SaliencyExplain.errors import ErrorCode, InputError


def find_handler(request: Request) -> type[Handler[Any, Any]]:
    """The handler class of a request.

    Raises:
        InputError: No handler answers requests of its kind.
    """
    _load_handlers()
    found = Handler.known.get(type(request))
    if found is None:
        raise InputError(
            ErrorCode.ENGINE_REQUEST,
            f"This engine does not support requests of kind '{request.kind}'. Install the plugin "
            "that defines them.",
        )
    return found


@cache
def _load_handlers() -> None:
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
