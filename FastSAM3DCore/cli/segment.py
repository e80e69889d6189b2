"""fastsam3d segment: one structure of one scan, from prompts to a file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..errors import PromptError
from .coordinates import Coordinates, Spec, parse_box, parse_point, parse_scribble
from .feedback import show_messages
from .segmenting import Request, segment_scan

__all__ = ["parse_color", "prompts_in_order", "segment"]

PARSERS = {
    "--point": lambda text: parse_point(text),
    "--negative": lambda text: parse_point(text, positive=False),
    "--scribble": lambda text: parse_scribble(text),
    "--box": parse_box,
}


def segment(
    context: typer.Context,
    scan: Annotated[Path, typer.Argument(help="NIfTI, NRRD or MetaImage file, DICOM file or DICOM folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Result: .seg.nrrd for 3D Slicer, or .nii.gz.")],
    point: Annotated[list[str] | None, typer.Option(metavar="R,A,S", help="A point inside; repeatable.")] = None,
    negative: Annotated[list[str] | None, typer.Option(metavar="R,A,S", help="A point outside; repeatable.")] = None,
    box: Annotated[
        list[str] | None, typer.Option(metavar="r0,r1,a0,a1,s0,s1", help="A box around the structure; repeatable.")
    ] = None,
    scribble: Annotated[
        list[str] | None, typer.Option(metavar="R,A,S;R,A,S;..", help="A stroke inside; repeatable.")
    ] = None,
    coords: Annotated[Coordinates, typer.Option(help="Frame of the numbers: mm (ras, lps) or voxels (ijk).")] = (
        Coordinates.RAS
    ),
    prompts: Annotated[Path | None, typer.Option(help="Replay this prompt log (JSON).")] = None,
    mask: Annotated[Path | None, typer.Option(help="Start from a segment of this file.")] = None,
    mask_segment: Annotated[str | None, typer.Option(help="Which segment of --mask: name or label value.")] = None,
    save_prompts: Annotated[Path | None, typer.Option(help="Write the prompt log here.")] = None,
    name: Annotated[str, typer.Option(help="Name of the segment; common names get standard codes.")] = "Segment_1",
    color: Annotated[str | None, typer.Option(help="#rrggbb or r,g,b from 0 to 255.")] = None,
    frame: Annotated[int | None, typer.Option(min=0, help="Volume of a 4D scan, or channel.")] = None,
    series: Annotated[str | None, typer.Option(help="DICOM series: UID, its end, number or description.")] = None,
    model: Annotated[str, typer.Option(help="Model name or weights file.")] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threshold: Annotated[float | None, typer.Option(help="Probability above which a voxel is inside; 0.5.")] = None,
    png: Annotated[Path | None, typer.Option(help="Also write a picture of the result.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Segment a structure in a scan from points, boxes or a prompt log.

    Boxes apply first, then points and scribbles in the order given. Example:
    fastsam3d segment ct.nii.gz --point -30,12,5 --negative -10,12,5 -o liver.seg.nrrd --name liver
    """
    given = {"--point": point, "--negative": negative, "--scribble": scribble, "--box": box}
    request = Request(
        scan,
        output,
        specs=prompts_in_order(given, context.obj),
        coordinates=coords,
        prompts=prompts,
        mask=mask,
        mask_segment=mask_segment,
        save_prompts=save_prompts,
        name=name.strip() or "Segment_1",
        color=parse_color(color),
        frame=frame,
        series=series,
        model=model,
        device=device,
        threshold=threshold,
        png=png,
    )
    with show_messages():
        summary = segment_scan(request)
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    count = summary["prompts"]
    milliseconds = sum(summary["ms_per_prompt"]) / max(1, len(summary["ms_per_prompt"]))
    typer.echo(
        f"{summary['segment']}: {summary['volume_ml']:.2f} ml, {summary['voxels']} voxels, "
        f"{count} prompt{'s' * (count != 1)} at {milliseconds:.0f} ms -> {summary['output']}"
    )


def prompts_in_order(given: dict[str, list[str] | None], argv: Sequence[str] | None) -> tuple[Spec, ...]:
    """Parse the prompt options in the order they stand on the command line.

    Args:
        given: option name -> its values, each list in order.
        argv: the raw arguments; None if unknown: then option by option.
    """
    queues = {option: list(values or []) for option, values in given.items()}
    specs = []
    for token in argv or ():
        option = token.split("=", 1)[0]
        if queues.get(option):
            specs.append(PARSERS[option](queues[option].pop(0)))
    specs += [PARSERS[option](text) for option, rest in queues.items() for text in rest]
    return tuple(specs)


def parse_color(text: str | None) -> tuple[float, float, float] | None:
    """`#rrggbb` or `r,g,b` (0 to 255) as numbers from 0 to 1.

    Raises:
        PromptError: neither.
    """
    if text is None:
        return None
    if re.fullmatch(r"#?[0-9a-fA-F]{6}", text):
        digits = text.removeprefix("#")
        red, green, blue = (int(digits[n : n + 2], 16) for n in (0, 2, 4))
    elif re.fullmatch(r"\d{1,3}(,\d{1,3}){2}", text) and all(int(v) <= 255 for v in text.split(",")):
        red, green, blue = (int(v) for v in text.split(","))
    else:
        raise PromptError(f"The colour {text!r} cannot be read; give #rrggbb or r,g,b from 0 to 255.")
    return (red / 255, green / 255, blue / 255)
