"""fastsam3d weights: list, download, import, verify, convert, average and remove model weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from ..errors import CancelledError, WeightsError
from ..weights.cache import CacheRecord, WeightsCache, cache_folder
from ..weights.files import Progress as ProgressCallback
from ..weights.install import import_weights, list_models
from ..weights.manifest import ModelEntry, manifest_entry
from ..weights.verify import verify_weights

if TYPE_CHECKING:
    from ..modeling.config import ResidualRule

__all__ = ["weights_app"]

weights_app = typer.Typer(
    help="List, download, import, verify, convert, average and remove model weights.",
    add_completion=False,
    rich_markup_mode=None,
)

CacheOption = Annotated[
    Path | None, typer.Option("--cache", help="Folder of imported weights; default FASTSAM3D_CACHE or the system's.")
]
DigestOption = Annotated[str | None, typer.Option("--sha256", help="Refuse the file unless it has this SHA-256.")]


class Residual(StrEnum):
    """Where the second residual of an encoder block starts."""

    PRE = "pre"
    NORMED = "normed"


@weights_app.command("list")
def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    cache: CacheOption = None,
) -> None:
    """Show every known model, whether it is on this machine, and its licence."""
    statuses = list_models(WeightsCache(cache_folder(cache)))
    if as_json:
        typer.echo(json.dumps([asdict(status) for status in statuses], indent=2))
        return
    table = Table("Model", "State", "MB", "Licence", "Description")
    for status in statuses:
        table.add_row(status.name, status.state, str(status.size_mb), status.licence, status.description)
    Console().print(table)


@weights_app.command("download")
def download_command(
    name: Annotated[str, typer.Argument(help="Model to download, as 'weights list' names it.")],
    accept: Annotated[
        bool, typer.Option("--accept-licence", "--accept-license", help="Accept the licence without being asked.")
    ] = False,
    mirror: Annotated[
        str | None, typer.Option("--mirror", help="Address of the file, or of a server or folder with the same paths.")
    ] = None,
    sha256: DigestOption = None,
    cache: CacheOption = None,
) -> None:
    """Download a published model; continues where an earlier attempt broke off.

    Proxies are taken from HTTPS_PROXY and HTTP_PROXY, a mirror from FASTSAM3D_MIRROR.
    """
    from ..weights.download import download_weights

    store = WeightsCache(cache_folder(cache))
    entry = manifest_entry(name)
    present = store.records().get(name)
    if present is not None and store.path_of(name).is_file():
        require_same_source(name, present, sha256)
        typer.echo(f"{name} is already at {store.path_of(name)}.")
        return
    if not entry.bundled:
        ask_for_consent(entry, accept)
    with progress_bar(f"Downloading {name}") as progress:
        record = download_weights(name, store, progress, mirror=mirror, sha256=sha256)
    report_installed(name, record, store)


@weights_app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="A .safetensors, .pth or .pt file in any published layout.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Name to load it by; default: the published model it is.")
    ] = None,
    sha256: DigestOption = None,
    cache: CacheOption = None,
) -> None:
    """Take a weights file into the cache, for machines without internet; nothing in the file is executed."""
    store = WeightsCache(cache_folder(cache))
    with progress_bar(f"Checking {file.name}") as progress:
        kept, record = import_weights(file, store, name=name, sha256=sha256, progress=progress)
    report_installed(kept, record, store)


@weights_app.command("verify")
def verify_command(
    names: Annotated[list[str] | None, typer.Argument(help="Models to verify; default: all on this machine.")] = None,
    cache: CacheOption = None,
) -> None:
    """Recompute digests and compare them with the manifest or with what was recorded at installation."""
    with progress_bar("Verifying") as progress:
        results = verify_weights(WeightsCache(cache_folder(cache)), names, progress)
    words = {True: "ok", False: "FAILED", None: "-"}
    for result in results:
        typer.echo(f"{result.name}: {words[result.ok]}: {result.detail}")
    failed = [result.name for result in results if result.ok is False]
    if failed:
        raise WeightsError(f"Verification failed for {', '.join(failed)}; see above for what to do.")


@weights_app.command("convert")
def convert_command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A weights file in any published layout.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to write.")],
    half: Annotated[bool, typer.Option("--half", help="Store float16: half the size.")] = False,
    decoder_from: Annotated[
        Path | None, typer.Option("--decoder-from", help="Full model to complete an encoder-only file with.")
    ] = None,
    residual: Annotated[
        Residual | None, typer.Option("--residual", help="Residual rule to store; default: by architecture.")
    ] = None,
) -> None:
    """Write the weights of any published layout as safetensors, without optimiser state."""
    from ..weights.convert import convert_weights

    rule: ResidualRule | None = None if residual is None else "pre" if residual is Residual.PRE else "normed"
    architecture = convert_weights(source, target, half=half, residual=rule, decoder_from=decoder_from)
    typer.echo(f"{target}: {architecture}, {target.stat().st_size / 1e6:.1f} MB.")


@weights_app.command("average")
def average_command(
    networks: Annotated[list[str], typer.Argument(metavar="FILE=SHARE...", help="Safetensors of one network.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the mean (.safetensors).")],
) -> None:
    """Average the weights of related training runs."""
    from ..weights.average import average_weights

    shares = {}
    for text in networks:
        path, _, share = text.rpartition("=")
        try:
            shares[Path(path)] = float(share)
        except ValueError as error:
            raise WeightsError(f"{text!r}: give FILE=SHARE, as in student.safetensors=0.7.") from error
    average_weights(shares, output)
    typer.echo(f"Wrote {output}.")


@weights_app.command("remove")
def remove_command(
    name: Annotated[str, typer.Argument(help="Model to delete from the cache.")], cache: CacheOption = None
) -> None:
    """Delete imported weights and what an interrupted download left; forgets the recorded digest."""
    freed = WeightsCache(cache_folder(cache)).remove(name)
    typer.echo(f"Removed {name}: {freed / 1e6:.1f} MB freed.")


def require_same_source(name: str, present: CacheRecord, sha256: str | None) -> None:
    """Refuse a pinned digest that the installed model was not made from.

    Raises:
        WeightsError: they differ.
    """
    if sha256 is not None and sha256.lower() != present.source_sha256:
        raise WeightsError(
            f"{name} is installed from a file with SHA-256 {present.source_sha256}; "
            f"run 'fastsam3d weights remove {name}' first."
        )


def ask_for_consent(entry: ModelEntry, accepted: bool) -> None:
    """Show the licence, and ask unless it was accepted on the command line.

    Raises:
        CancelledError: declined.
        WeightsError: nobody there to ask.
    """
    typer.echo(
        f"{entry.name}: {entry.description}\n"
        f"  by       {entry.source}\n"
        f"  from     {entry.urls[0]}, about {entry.approximate_mb} MB\n"
        f"  licence  {entry.licence}, stated at {entry.licence_url}",
        err=True,
    )
    if accepted:
        return
    if not sys.stdin.isatty():
        raise WeightsError(f"The licence of {entry.name} must be accepted; run again with --accept-licence.")
    if not typer.confirm("Accept the licence and download?", err=True):
        raise CancelledError("Nothing was downloaded.")


def report_installed(name: str, record: CacheRecord, store: WeightsCache) -> None:
    typer.echo(f"{name} is ready: {store.path_of(name)}, {record.size / 1e6:.1f} MB ({record.architecture}).")
    typer.echo(f"SHA-256 of the original file: {record.source_sha256}")
    if record.trusted == "first use":
        typer.echo("No published digest is known for it, so this one was recorded and later downloads must match it.")


@contextmanager
def progress_bar(label: str) -> Iterator[ProgressCallback]:
    """A progress bar on stderr if that is a terminal; nothing otherwise."""
    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
