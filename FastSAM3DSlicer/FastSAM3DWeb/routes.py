"""HTTP routes of a worker: uploads and downloads."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from FastSAM3DCore.errors import FastSAM3DError
from FastSAM3DCore.prompts import prompts_to_json

from .reading import ScanSource
from .scene_files import write_label_map, write_scene, write_segmentation

if TYPE_CHECKING:
    from .app import WebApp

__all__ = ["add_routes"]

CHUNK = 1 << 18
DOWNLOADS = {"seg.nrrd", "nii.gz", "mrb", "prompts.json"}


def add_routes(app: web.Application, worker: WebApp) -> None:
    """Add the routes to the server that also serves the page."""
    routes = Routes(worker)
    app.router.add_post("/f3d/upload/begin", routes.begin)
    app.router.add_post("/f3d/upload/file", routes.file)
    app.router.add_post("/f3d/upload/open", routes.open)
    app.router.add_get("/f3d/download/{kind}", routes.download)


class Routes:
    def __init__(self, worker: WebApp) -> None:
        self.worker = worker

    async def begin(self, request: web.Request) -> web.Response:
        return web.json_response({"batch": self.worker.uploads.begin()})

    async def file(self, request: web.Request) -> web.Response:
        try:
            await self.worker.uploads.receive(
                request.query.get("batch", ""), request.query.get("name", ""), request.content.iter_chunked(CHUNK)
            )
        except FastSAM3DError as error:
            return _refuse(error)
        return web.json_response({})

    async def open(self, request: web.Request) -> web.Response:
        batch = request.query.get("batch", "")
        try:
            upload = await asyncio.to_thread(self.worker.uploads.finish, batch)
        except FastSAM3DError as error:
            self.worker.uploads.drop(batch)
            return _refuse(error)
        opening, opened = self.worker.opening, False
        try:
            if upload.is_segmentation:
                opened = await opening.segmentation(upload.path, upload.path.name)
            else:
                opened = await opening.scan(ScanSource(upload.path, upload.name))
        except FastSAM3DError as error:
            return _refuse(error)
        finally:
            if not opened:
                upload.remove()
        return web.json_response({})

    async def download(self, request: web.Request) -> web.StreamResponse:
        kind = request.match_info["kind"]
        study = self.worker.study
        if kind not in DOWNLOADS:
            return web.Response(status=404, text="There is no such download.\n")
        if not study.is_open:
            return web.Response(status=409, text="Open a scan first.\n")
        await self.worker.prompting.settle()
        stem = _plain(study.name) or "segmentation"
        if kind == "prompts.json":
            text = prompts_to_json(study.logic.prompts)
            name = f"{stem}-{_plain(study.segment(study.active_id).GetName())}-prompts.json"
            return web.Response(text=text, content_type="application/json", headers=_attachment(name))
        folder = Path(tempfile.mkdtemp(prefix="fastsam3d-"))
        try:
            path = folder / f"{stem}.{kind}"
            self._write(kind, path)
            return await _send(request, path)
        except FastSAM3DError as error:
            return _refuse(error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _write(self, kind: str, path: Path) -> None:
        study = self.worker.study
        if kind == "seg.nrrd":
            write_segmentation(study.segmentation_node, path)
        elif kind == "nii.gz":
            write_label_map(study.scene, study.segmentation_node, study.volume_node, path)
        else:
            write_scene(study.scene, path)


def _plain(name: str) -> str:
    """A name that can be part of a file name everywhere."""
    return re.sub(r"[^\w.\-]", "_", name)


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}


async def _send(request: web.Request, path: Path) -> web.StreamResponse:
    response = web.StreamResponse(headers=_attachment(path.name))
    response.content_type = "application/octet-stream"
    response.content_length = path.stat().st_size
    await response.prepare(request)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            await response.write(chunk)
    await response.write_eof()
    return response


def _refuse(error: FastSAM3DError) -> web.Response:
    return web.json_response({"error": str(error)}, status=error.http_status)
