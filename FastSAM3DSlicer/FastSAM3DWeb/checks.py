"""What `fastsam3d web` makes sure of before a page opens: what cannot work is refused in the terminal, in one line."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

from FastSAM3DCore.errors import DeviceError, ImageError
from FastSAM3DCore.extras import EXTRAS

__all__ = ["check_engine", "check_packages", "check_scan", "check_segmentation"]


def check_packages() -> None:
    """Raises ModuleNotFoundError, which the command line explains, if a package of the browser app is missing."""
    for module in EXTRAS["web"]:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def check_scan(path: Path, frame: int | None, series: str | None) -> None:
    """Read the scan once.

    Raises:
        ImageError: it cannot be used.
    """
    from FastSAM3DCore.io import load_volume

    load_volume(path, frame=frame, series=series)


def check_segmentation(path: Path) -> None:
    """Look at what can be seen without MRML, which reads it later.

    Raises:
        ImageError: it is not there, or has no known ending.
    """
    from FastSAM3DCore.io.segmentation import LABEL_SUFFIXES, SEGMENTATION_SUFFIXES

    endings = SEGMENTATION_SUFFIXES + LABEL_SUFFIXES
    if not path.is_file():
        raise ImageError(f"There is no segmentation {path}; check the path.")
    if not path.name.lower().endswith(endings):
        raise ImageError(f"{path.name} is no segmentation that can be read; its name must end in {', '.join(endings)}.")


def check_engine(model: str, device: str) -> None:
    """Load the model once, in a process of its own: torch and graphics memory are for the sessions to use.

    Raises:
        WeightsError: unknown model or unusable file.
        DeviceError: the device is not there or does not work.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        try:
            process.submit(_load, model, device).result()
        except BrokenProcessPool as error:
            raise DeviceError(
                f"The model {model} cannot be loaded: the process ended unexpectedly, perhaps for lack of memory; "
                "run fastsam3d doctor."
            ) from error


def _load(model: str, device: str) -> None:
    from FastSAM3DCore import open_session

    open_session(model, device).close()
