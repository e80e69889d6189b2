"""`fastsam3d web`: the command."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
import webbrowser
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from .checks import check_engine, check_packages, check_scan, check_segmentation
from .config import MEGABYTE, FrontConfig, WorkerConfig, default_state_dir
from .front.guard import MIN_TOKEN_LENGTH, is_loopback

__all__ = ["web"]

TOKEN_VARIABLE = "FASTSAM3D_WEB_TOKEN"


def web(
    scan: Annotated[
        Path | None, typer.Argument(help="NIfTI, NRRD, MHA or a DICOM folder; without it, the sample.")
    ] = None,
    segmentation: Annotated[Path | None, typer.Option(help="Segments to continue from (.seg.nrrd, .nii.gz).")] = None,
    frame: Annotated[int | None, typer.Option(min=0, help="Volume of a 4D scan, or channel.")] = None,
    series: Annotated[str | None, typer.Option(help="DICOM series: UID, its end, number or description.")] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Open the sample scan.")] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine a token is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8080,
    token_file: Annotated[
        Path | None, typer.Option(help=f"File whose first line is the token; or set {TOKEN_VARIABLE}.")
    ] = None,
    model: Annotated[str, typer.Option(help="Name or file of the weights.")] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    max_sessions: Annotated[int, typer.Option(min=1, help="Browsers served at once, each in its own process.")] = 4,
    idle_minutes: Annotated[float, typer.Option(min=0.01, help="End a session this long after its page closed.")] = 10,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Largest upload, unpacked.")] = 2048,
    state_dir: Annotated[Path | None, typer.Option(help="Where sessions are saved.")] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page when ready.")] = True,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the processes say.")] = False,
) -> None:
    """Open a scan in the browser and segment it there."""
    logging.basicConfig(level=logging.DEBUG if verbose else logging.WARNING, format="%(levelname)s %(message)s")
    check_packages()
    token = _read_token(token_file)
    _check_access(host, token)
    if scan is None and (frame is not None or series is not None):
        _refuse("--frame and --series choose within a scan; name the scan too.")
    if sample and scan is not None:
        _refuse("give a scan or --sample, not both.")
    if segmentation is not None:
        check_segmentation(segmentation)
    if scan is not None:
        check_scan(scan, frame, series)
    check_engine(model, device)
    front = FrontConfig(
        host=host,
        port=port,
        token=token,
        max_sessions=max_sessions,
        idle_seconds=idle_minutes * 60,
        state_dir=(state_dir or default_state_dir()).resolve(),
    )
    worker = WorkerConfig(
        secret="",
        state_dir="",
        scan=str(scan.resolve()) if scan else None,
        segmentation=str(segmentation.resolve()) if segmentation else None,
        frame=frame,
        series=series,
        model=model,
        device=device,
        max_upload=max_upload_mb * MEGABYTE,
    )
    try:
        asyncio.run(_run(front, worker, open_browser))
    except OSError as error:
        _refuse(f"cannot listen on {host}:{port} ({error.strerror or error}); choose another with --port.")


def _refuse(message: str) -> NoReturn:
    raise typer.BadParameter(message)


def _read_token(path: Path | None) -> str:
    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        _refuse(f"cannot read the token file {path} ({error.strerror}).")
    return lines[0].strip() if lines else ""


def _check_access(host: str, token: str) -> None:
    if token and len(token) < MIN_TOKEN_LENGTH:
        _refuse(f"the token is shorter than {MIN_TOKEN_LENGTH} characters; for example: {secrets.token_urlsafe(16)}")
    if not token and not is_loopback(host):
        _refuse(
            f"listening on {host} lets others in; set a token first: "
            f"{TOKEN_VARIABLE}={secrets.token_urlsafe(16)} or --token-file FILE."
        )


async def _run(config: FrontConfig, worker: WorkerConfig, open_browser: bool) -> None:
    from .front.server import Front

    front = Front(config, worker)
    await front.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM"):
        if hasattr(signal, name) and sys.platform != "win32":
            loop.add_signal_handler(getattr(signal, name), stop.set)
    typer.echo(f"FastSAM3D is at {front.url}  (Ctrl-C ends it)")
    if open_browser and _has_screen():
        await asyncio.to_thread(webbrowser.open, front.url)
    try:
        await stop.wait()
    finally:
        await front.stop()


def _has_screen() -> bool:
    """Whether a browser window could appear; text browsers in a terminal are no help."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def main() -> None:
    """The command on its own: `python -m FastSAM3DWeb.cli`."""
    from FastSAM3DCore.cli import main as run

    sys.exit(run(["web", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
