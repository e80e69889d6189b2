"""Which commands there are. Their modules, and torch with them, load when a command runs, not for `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .. import __version__

__all__ = ["build_command"]


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    module: str
    """Relative to this package, or a package that knows this one."""
    attribute: str
    """A function with typer annotations, or a typer app for commands with subcommands."""
    help: str


ENTRIES = (
    _Entry("segment", ".segment", "segment", "Segment a structure in a scan from points, boxes or a prompt log."),
    _Entry("sample", ".sample", "sample", "Segment a sample scan, to see that everything works."),
    _Entry("evaluate", ".evaluate", "evaluate", "Score a model with simulated clicks on labelled scans."),
    _Entry("compare", ".compare", "compare_app", "Set weights, or kinds of attention, side by side in a table."),
    _Entry("calibrate", ".calibrate", "calibrate_command", "Make the probability mean what it says."),
    _Entry("bench", ".bench", "bench", "Time encoding and clicks on this machine."),
    _Entry("weights", ".weights", "weights_app", "List, download, import, verify and convert model weights."),
    _Entry("web", "FastSAM3DWeb.cli", "web", "Segment in the browser, no 3D Slicer needed."),
    _Entry("serve", ".serve", "serve", "Serve sessions to other machines over HTTP."),
    _Entry("train", ".train", "train", "Train a teacher from a configuration file."),
    _Entry("distill", ".train", "distill", "Distil a student layer by layer from a teacher."),
    _Entry("doctor", ".doctor", "doctor", "Check this machine: devices, weights, memory, disk."),
)


class _LazyCommand(TyperCommand):
    """Knows its name and help; becomes the real command when it is called."""

    def __init__(self, entry: _Entry) -> None:
        super().__init__(name=entry.name, help=entry.help, add_help_option=False)
        self._entry = entry

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self._load().make_context(info_name, args, parent=parent, **extra)

    def _load(self) -> Any:
        target = getattr(import_module(self._entry.module, __package__), self._entry.attribute)
        if isinstance(target, typer.Typer):
            return typer.main.get_command(target)
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(self._entry.name)(target)
        return typer.main.get_command(app)


def build_command() -> TyperGroup:
    """The `fastsam3d` command with all its subcommands."""
    app = typer.Typer(name="fastsam3d", add_completion=False, rich_markup_mode=None)
    app.callback(help="Interactive 3D segmentation of medical scans: click, see the structure, click again.")(_root)
    group = typer.main.get_group(app)
    for entry in ENTRIES:
        if _exists(entry.module):
            group.add_command(_LazyCommand(entry))
    return group


def _exists(module: str) -> bool:
    """Whether a command came with this installation; the browser app is a package of its own."""
    try:
        return find_spec(module, __package__) is not None
    except ModuleNotFoundError:
        return False


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastsam3d {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    del version  # the option's callback has answered it
