"""DICOM folders: which series there are, which files make one volume, and whether they are a regular grid."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import ImageError
from ..types import SHEAR_TOLERANCE, Volume
from .dicom_slices import (
    MODALITY,
    SERIES_DESCRIPTION,
    SERIES_NUMBER,
    DicomSlice,
    read_header,
    read_slice,
    refuse_damaged,
    tag_of,
)
from .native import LPS_TO_RAS, affine_from_image, array_from_image, first_sentence
from .reading import read_image

__all__ = ["Series", "list_series", "load_series"]

log = logging.getLogger(__name__)

# Slice gaps may differ from their median by this share; beyond WARN a person should know, beyond REFUSE a
# slice is missing or the series is two, and every distance along the body would be wrong.
WARN_UNEVEN, REFUSE_UNEVEN = 0.02, 0.25


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a folder."""

    uid: str
    files: tuple[str, ...]
    description: str = ""
    number: str = ""

    @property
    def label(self) -> str:
        """How messages name it."""
        name = f"{self.number} {self.description!r}".strip() if self.description or self.number else self.uid
        return f"{name} ({len(self.files)} files)"


def list_series(folder: Path) -> list[Series]:
    """The image series in a folder (and, if it has none itself, in its subfolders), most files first."""
    found = _series_of([folder])
    return found or _series_of([Path(place) for place, _, files in os.walk(folder) if files])


def _series_of(folders: list[Path]) -> list[Series]:
    files_by_uid: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            files_by_uid[uid] += sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
    found = []
    for uid, files in files_by_uid.items():
        reader = read_header(files[0])
        if reader is not None:  # structure sets and reports are DICOM, but no images
            found.append(Series(uid, tuple(files), tag_of(reader, SERIES_DESCRIPTION), tag_of(reader, SERIES_NUMBER)))
    return sorted(found, key=lambda s: (-len(s.files), s.uid))


def load_series(folder: Path, wanted: str | None = None, frame: int | None = None) -> Volume:
    """Read one series of a folder.

    Args:
        folder: where the files are.
        wanted: UID, end of the UID, number or description; None for the series with most files.
        frame: time point, when the series holds several volumes.

    Raises:
        ImageError: no DICOM, no such series, several time points without a choice, or slices that are no
            regular grid (gantry tilt, missing slices).
    """
    everything = list_series(folder)
    if not everything:
        raise ImageError(f"The folder {folder} holds no DICOM images; give a DICOM folder or an image file.")
    series = _pick(everything, wanted)
    others = [s.label for s in everything if s is not series]
    if others and wanted is None:
        log.warning("Using series %s; others here: %s. Choose with --series.", series.label, "; ".join(others))
    _refuse_damaged(series, everything)
    slices = _main_stack(series)
    if slices[0].size[2:] not in ((), (1,)):
        return _load_multiframe(slices, frame)
    return _load_stack(_time_point(slices, frame))


def _pick(everything: list[Series], wanted: str | None) -> Series:
    if wanted is None:
        return everything[0]
    for matches in (
        [s for s in everything if s.uid == wanted],
        [s for s in everything if wanted in (s.number, s.description)],
        [s for s in everything if s.uid.endswith(wanted)],
    ):
        if len(matches) == 1:
            return matches[0]
    known = "; ".join(f"{s.label}, UID {s.uid}" for s in everything)
    raise ImageError(f"No single series matches --series {wanted!r}; the folder has {known}.")


def _refuse_damaged(series: Series, everything: list[Series]) -> None:
    known = {Path(file) for one in everything for file in one.files}
    folders = {Path(file).parent for file in series.files}
    others = (path for place in folders for path in sorted(place.iterdir()) if path.is_file() and path not in known)
    reader = read_header(series.files[0])
    if reader is not None:
        refuse_damaged(others, tag_of(reader, MODALITY))


def _main_stack(series: Series) -> list[DicomSlice]:
    """The slices of the largest group of equal size and orientation; localizers often share a series."""
    groups: dict[tuple[object, ...], list[DicomSlice]] = defaultdict(list)
    for file in series.files:
        piece = read_slice(file)
        groups[piece.kind].append(piece)
    slices = max(groups.values(), key=len)
    left_out = len(series.files) - len(slices)
    if left_out:
        log.warning("%d files of another size or orientation in the series are left out.", left_out)
    if slices[0].components > 1:
        raise ImageError("The DICOM series is in colour; a scan of grey values is needed.")
    return slices


def _time_point(slices: list[DicomSlice], frame: int | None) -> list[DicomSlice]:
    """Slices of one volume, ordered along the normal of the slices."""
    if len(slices) > 1 and not all(s.has_position for s in slices):
        raise ImageError("The DICOM files carry no slice positions; convert the series to NIfTI or NRRD first.")
    normal = slices[0].axes[:, 2]
    places: dict[float, list[DicomSlice]] = defaultdict(list)
    for piece in sorted(slices, key=lambda s: (s.instance, s.file)):
        places[round(float(piece.origin @ normal), 2)].append(piece)
    counts = {len(stack) for stack in places.values()}
    count = max(counts)
    if count == 1 and frame:
        raise ImageError(f"The DICOM series has only one volume; leave out --frame {frame}.")
    if len(counts) > 1:
        raise ImageError("The DICOM series is incomplete: some slice positions occur more often than others.")
    if count > 1 and (frame is None or not 0 <= frame < count):
        raise ImageError(f"The DICOM series holds {count} volumes (time points); choose --frame 0 to {count - 1}.")
    return [places[place][frame or 0] for place in sorted(places)]


def _load_stack(slices: list[DicomSlice]) -> Volume:
    step = _slice_step(slices)
    first = slices[0]
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([s.file for s in slices])
    if len({s.pixel_id for s in slices}) > 1:  # rescaled slice by slice (PET): no integer type holds them all
        reader.SetOutputPixelType(sitk.sitkFloat32)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise ImageError(f"The DICOM series cannot be read; copy it again ({first_sentence(error)}).") from error
    ijk_to_lps = np.eye(4)
    ijk_to_lps[:3, 0] = first.axes[:, 0] * first.spacing[0]
    ijk_to_lps[:3, 1] = first.axes[:, 1] * first.spacing[1]
    ijk_to_lps[:3, 2] = step
    ijk_to_lps[:3, 3] = first.origin
    return Volume(array_from_image(image), LPS_TO_RAS @ ijk_to_lps)


def _slice_step(slices: list[DicomSlice]) -> NDArray[np.float64]:
    """The vector (LPS mm) from one slice to the next, or an error if there is no single one."""
    normal = slices[0].axes[:, 2]
    if len(slices) == 1:
        return np.asarray(normal * slices[0].spacing[2])
    origins = np.stack([s.origin for s in slices])
    step = (origins[-1] - origins[0]) / (len(slices) - 1)
    along = float(step @ normal)
    tilt = np.linalg.norm(step - along * normal) / along
    if tilt > SHEAR_TOLERANCE:
        angle = np.degrees(np.arctan(tilt))
        raise ImageError(
            f"The DICOM series is sheared by a gantry tilt of {angle:.1f} degrees; "
            "correct it first (3D Slicer does on import: 'Acquisition geometry regularization')."
        )
    gaps = np.diff(origins @ normal)
    usual = float(np.median(gaps))
    uneven = float(np.abs(gaps / usual - 1).max())
    if uneven > REFUSE_UNEVEN:
        raise ImageError(
            f"The DICOM slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart: slices are missing, "
            "or two series are mixed; add the missing files or resample the series first."
        )
    if uneven > WARN_UNEVEN:
        log.warning(
            "The DICOM slices are %.2f to %.2f mm apart; they are treated as evenly spaced.", gaps.min(), gaps.max()
        )
    return np.asarray(step)


def _load_multiframe(slices: list[DicomSlice], frame: int | None) -> Volume:
    """Enhanced DICOM: each file is a volume."""
    ordered = sorted(slices, key=lambda s: (s.instance, s.file))
    count = len(ordered)
    if count > 1 and (frame is None or not 0 <= frame < count):
        raise ImageError(f"The DICOM series holds {count} volumes; choose --frame 0 to {count - 1}.")
    image = read_image(Path(ordered[frame or 0].file))
    return Volume(array_from_image(image), affine_from_image(image))
