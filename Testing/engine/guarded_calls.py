"""Calls of the real application without a socket between."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np

from SaliencyExplain.engine.server.auth import RequestAuth
from SaliencyExplain.voxel_volume import Volume

TOKEN = "a-token-of-a-test-that-is-long-enough"


LARGEST = 2 * 1024**2


SMALL = Volume(np.arange(64, dtype=np.float32).reshape(1, 4, 4, 4), np.eye(4))


class Caller:
    """Asks the real application, guarded, without a socket between."""

    def __init__(self, auth: RequestAuth) -> None:
        self._auth = auth

    def __call__(
        self, verb: str, path: str, *, content: object = None, **headers: str
    ) -> httpx.Response:
        given = {"Authorization": f"Bearer {TOKEN}"} | headers

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._auth, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1:8123"
            ) as client:
                return await client.request(verb, path, content=content, headers=given)

        return asyncio.run(ask())
