"""fastsam3d sample: a first result on a real scan, with nothing to bring along."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ImageError, OutputError
from .feedback import show_messages, working
from .samples import list_samples, locate
from .segmenting import Request, SessionFactory, local_session, segment_scan

__all__ = ["run_sample", "sample"]


def sample(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("out"),
    name: Annotated[str | None, typer.Option(help="Which sample; default: the first one that can be had.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not try to download.")] = False,
    model: Annotated[str, typer.Option(help="Model name or weights file.")] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Segment a sample scan from prepared prompts: one of 3D Slicer's, or without a network one from nilearn."""
    with show_messages():
        summary = run_sample(output, name, offline, model, device)
    typer.echo(f"{summary['segment']}: {summary['volume_ml']:.2f} ml from {summary['prompts']} prompts")
    typer.echo(f"scan:         {summary['scan']}")
    typer.echo(f"segmentation: {summary['output']}  (open both in 3D Slicer)")
    typer.echo(f"picture:      {summary['png']}")


def run_sample(
    output: Path,
    name: str | None = None,
    offline: bool = False,
    model: str = "default",
    device: str = "auto",
    session_factory: SessionFactory = local_session,
) -> dict[str, Any]:
    """Segment a sample and write `<name>.seg.nrrd` and `<name>.png` into a folder.

    Raises:
        FastSAM3DError: unknown or unavailable sample, or results that cannot be written.
    """
    samples = list_samples()
    if name is not None:
        samples = [s for s in samples if s.name == name]
        if not samples:
            known = ", ".join(s.name for s in list_samples())
            raise ImageError(f"There is no sample {name!r}; choose one of {known}.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {output}: {error.strerror or error}; choose another.") from error
    with working("Getting a sample scan"):
        chosen, scan = locate(samples, offline=offline)
    request = Request(
        scan,
        output / f"{chosen.name}.seg.nrrd",
        prompts=chosen.prompt_file,
        name=chosen.segment,
        png=output / f"{chosen.name}.png",
        model=model,
        device=device,
    )
    return segment_scan(request, session_factory)
