"""What the page's address answers besides the page: downloads, uploads, pictures of a study."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from PIL import Image

from SaliencyExplain.engine.server.uploads import check_archive
from SaliencyExplain.errors import ErrorCode, InputError, OutputError, SaliencyExplainError
from SaliencyExplain.images.boundary import reading
from SaliencyExplain.private_folder import PrivateFolder
from SaliencyExplain.scene.mrb import save_mrb
from SaliencyExplain.viewer.dropped import free_path, sort_dropped, unpack
from SaliencyExplain.viewer.screenshot import screenshot

if TYPE_CHECKING:
    from SaliencyExplain.viewer.viewer import Viewer

_PIECE = 1 << 20


class Files:
    """Answers for files, and keeps what was dropped on the page while the viewer runs."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._kept = PrivateFolder("viewer")
        self._number = 0

    def add_routes(self, application: web.Application) -> None:
        """Adds what is answered."""
        router = application.router
        router.add_get("/alive", self._alive)
        router.add_get("/screenshot.png", self._screenshot)
        router.add_get("/scene.mrb", self._scene)
        router.add_get("/clicks.csv", self._table(lambda: self._viewer.probe.history.csv_text()))
        router.add_get("/comparison.csv", self._table(lambda: self._viewer.compare.csv()))
        router.add_get("/trust-card.png", self._card)
        router.add_get("/thumbnail/{number}.jpg", self._viewer.study.thumbnail)
        router.add_post("/upload", self._upload)

    def close(self) -> None:
        """Deletes what was dropped on the page."""
        self._kept.cleanup()

    async def _alive(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="alive")

    async def _card(self, request: web.Request) -> web.StreamResponse:
        card = self._viewer.evaluation.card()
        if not card:
            return web.Response(status=404, text="The map in the views was not evaluated.\n")
        return web.Response(body=card, content_type="image/png")

    def _table(
        self, text: Callable[[], str]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            return web.Response(text=text(), content_type="text/csv", headers=_attached(request))

        return answer

    async def _screenshot(self, request: web.Request) -> web.StreamResponse:
        # On the loop's thread: the views belong to it.
        pixels = screenshot(self._viewer.views)
        with tempfile.TemporaryDirectory(dir=self._kept.path) as folder:
            path = Path(folder) / "screenshot.png"
            await asyncio.to_thread(Image.fromarray(pixels).save, path)
            content = path.read_bytes()
        return web.Response(body=content, content_type="image/png", headers=_attached(request))

    async def _scene(self, request: web.Request) -> web.StreamResponse:
        with tempfile.TemporaryDirectory(dir=self._kept.path) as folder:
            path = Path(folder) / "scene.mrb"
            try:
                # On the loop's thread: nothing else may touch the scene meanwhile.
                save_mrb(self._viewer.scene, path)
            except OutputError as error:
                return web.Response(status=500, text=f"{error}\n")
            response = web.StreamResponse(headers=_attached(request))
            response.content_type = "application/zip"
            response.content_length = path.stat().st_size
            await response.prepare(request)
            with path.open("rb") as file:
                while piece := await asyncio.to_thread(file.read, _PIECE):
                    await response.write(piece)
        return response

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        """Takes files as multipart/form-data and opens them; one line says what is wrong."""
        try:
            if not request.content_type.startswith("multipart/"):
                raise InputError(
                    ErrorCode.ENGINE_REQUEST,
                    "An upload is multipart/form-data with at least one file.",
                )
            paths = await self._receive(request)
            self._viewer.open.open_dropped(await asyncio.to_thread(sort_dropped, paths))
        except ConnectionError:
            return web.Response(status=400, text="The upload broke off.\n")
        except (SaliencyExplainError, ValueError, HttpProcessingError) as error:
            line = " ".join(str(error).split())
            self._viewer.fail(InputError(ErrorCode.ENGINE_REQUEST, line))
            return web.Response(status=400, text=f"{line}\n")
        return web.Response(text="taken\n")

    async def _receive(self, request: web.Request) -> list[Path]:
        self._number += 1
        folder = self._kept.path / str(self._number)
        folder.mkdir()
        try:
            return await self._receive_into(folder, request)
        except BaseException:
            # What was refused, or has come in part, is kept no longer.
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise

    async def _receive_into(self, folder: Path, request: web.Request) -> list[Path]:
        largest, size, unpacked = self._viewer.settings.largest_upload, 0, 0
        paths: list[Path] = []
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if not isinstance(part, BodyPartReader) or not part.filename:
                continue
            # Names from elsewhere may hold folders and anything else.
            path = free_path(folder, Path(part.filename.replace("\\", "/")).name)
            with path.open("wb") as file:
                while piece := await part.read_chunk(_PIECE):
                    size += len(piece)
                    if size > largest:
                        raise InputError(
                            ErrorCode.ENGINE_LIMIT,
                            f"The viewer takes at most {largest} bytes at once.",
                        )
                    await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(check_archive, path, largest - unpacked)
            with reading(Path(path.name)):
                found = await asyncio.to_thread(unpack, path)
            unpacked += sum(one.stat().st_size for one in found)
            paths += found
        if not paths:
            raise InputError(ErrorCode.ENGINE_REQUEST, "The upload holds no file.")
        return paths


def _attached(request: web.Request) -> dict[str, str]:
    name = request.path.rpartition("/")[2]
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
