"""The data engine: an endless, repeatable supply of scenes from all sources, with reuse."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ...errors import ImageError
from ...splits import read_splits
from ..config import TrainConfig
from .brains import deep_brain
from .draw import Draw, Shape
from .heads import head_scene
from .lesions import lesion_scene
from .scenes import Scene, anatomy_scene, brain_scene, scan_scene, shapes_scene
from .supervoxels import with_supervoxels
from .volumes import LabelledVolume, load_volume

__all__ = ["DataEngine", "Sources"]

_TRIES = 8
_HEADS = 0.25  # of the scenes of brains


@dataclass
class Sources:
    """Everything scenes can be cut from.

    Attributes:
        anatomy: label maps.
        anatomy_weights: how often each label map is used.
        scans: labelled scans.
        scan_weights: how often each scan is used.
        supervoxels: scans with pseudo-labels.
        brains: the middles of heads labelled in FreeSurfer's scheme.
        heads: those heads whole.
    """

    anatomy: list[LabelledVolume] = field(default_factory=list)
    anatomy_weights: list[float] = field(default_factory=list)
    scans: list[LabelledVolume] = field(default_factory=list)
    scan_weights: list[float] = field(default_factory=list)
    supervoxels: list[LabelledVolume] = field(default_factory=list)
    brains: list[LabelledVolume] = field(default_factory=list)
    heads: list[LabelledVolume] = field(default_factory=list)

    @classmethod
    def load(
        cls, root: Path, splits: Path | None, device: torch.device | str = "cpu", *, brains: bool = True
    ) -> Sources:
        """Read what the split file names below `root`.

        Args:
            root: holds `labelmaps/`, `scans/<case>/` and `unlabelled/`; missing folders are skipped.
            splits: JSON with any of the lists "train", "unlabelled", "labelmaps_excluded" and "freesurfer" (label maps
                in the order of `brains`); None uses no scans.
            device: where volumes are kept.
            brains: whether to make them, which takes a second per head.

        Raises:
            ImageError: if the split file or a file that it names is missing or unreadable.
        """
        split = {} if splits is None else read_splits(splits)
        out = cls()
        for path in sorted((root / "labelmaps").glob("*.nii.gz")):
            name = path.name.removesuffix(".nii.gz")
            if name not in split.get("labelmaps_excluded", []):
                out.anatomy.append(load_volume(name, path, device=device))
        for case in split.get("train", []):
            folder = root / "scans" / case
            if not folder.is_dir():
                raise ImageError(f"training case {case} is not in {folder.parent}; fix the split file or the data path")
            out.scans.append(load_volume(case, folder / "label.nii.gz", folder / "image.nii.gz", device))
        plain = [load_volume(n, None, root / "unlabelled" / f"{n}.nii.gz", device) for n in split.get("unlabelled", [])]
        out.supervoxels = [with_supervoxels(v) for v in [*plain, *out.scans[:4]]]
        out.anatomy = [v for v in out.anatomy if v.structures]
        if brains:
            out.heads = [v for v in out.anatomy if v.name in split.get("freesurfer", [])]
            out.brains = [deep_brain(v) for v in out.heads]
        out.scans = [v for v in out.scans if v.structures]
        out.anatomy_weights, out.scan_weights = _weights(out.anatomy), _weights(out.scans)
        return out


class DataEngine:
    """Scene number `index` of a shape is a pure function of (seed, index, shape).

    Args:
        sources: label maps and scans.
        mix: weight of each kind (those of `Scene.kind`); without data it is left out.
        seed: of the stream.
        device: where scenes are made.
        targets: masks kept per scene.
    """

    def __init__(
        self, sources: Sources, mix: dict[str, float], seed: int, device: torch.device | str = "cpu", targets: int = 5
    ) -> None:
        available = {
            "shapes": True,
            "anatomy": bool(sources.anatomy),
            "scans": bool(sources.scans),
            "supervoxels": bool(sources.supervoxels),
            "brains": bool(sources.brains),
            "lesions": bool(sources.brains or sources.supervoxels),
        }
        self.mix = {kind: weight for kind, weight in mix.items() if available.get(kind) and weight > 0}
        if not self.mix:
            raise ImageError("no training data: give a weight to 'shapes', or point the config to data")
        self.sources, self.seed, self.device, self.targets = sources, seed, torch.device(device), targets

    @classmethod
    def of(cls, config: TrainConfig, device: torch.device | str = "cpu") -> DataEngine:
        """The engine a config asks for, its data loaded."""
        sources = Sources()
        if config.data:
            splits = Path(config.splits) if config.splits else None
            brains = any(config.mix.get(kind, 0) > 0 for kind in ("brains", "lesions"))
            sources = Sources.load(Path(config.data), splits, device, brains=brains)
        return cls(sources, config.mix, config.seed, device)

    def scene(self, index: int, shape: Shape) -> Scene:
        """Make scene number `index`."""
        draw = Draw(self.seed, index, self.device)
        kind = draw.python.choices(list(self.mix), list(self.mix.values()))[0]
        for _ in range(_TRIES):
            made = self._make(draw, kind, shape)
            if made is not None:
                return made
        while True:  # an unlucky crop: random shapes always find a target sooner or later
            made = shapes_scene(draw, shape, self.targets)
            if made is not None:
                return made

    def _make(self, draw: Draw, kind: str, shape: Shape) -> Scene | None:
        sources = self.sources
        if kind == "anatomy":
            volume = draw.python.choices(sources.anatomy, sources.anatomy_weights)[0]
            return anatomy_scene(draw, volume, shape, self.targets)
        if kind == "brains" and sources.heads and draw.chance(_HEADS):
            return head_scene(draw, draw.choice(sources.heads), shape, self.targets)
        if kind == "brains":
            return brain_scene(draw, draw.choice(sources.brains), shape, self.targets)
        if kind == "lesions":
            hosts = draw.choice([v for v in (sources.brains, sources.supervoxels) if v])
            return lesion_scene(draw, draw.choice(hosts), shape, self.targets)
        if kind == "scans":
            volume = draw.python.choices(sources.scans, sources.scan_weights)[0]
            return scan_scene(draw, volume, shape, self.targets)
        if kind == "supervoxels":
            return scan_scene(draw, draw.choice(sources.supervoxels), shape, self.targets)
        return shapes_scene(draw, shape, self.targets)


def _weights(volumes: list[LabelledVolume]) -> list[float]:
    """More structures count more, large families of similar volumes count less: square roots of both."""
    families = [re.split(r"[_\d]*\d", v.name)[0] for v in volumes]
    return [(len(v.structures) / families.count(family)) ** 0.5 for v, family in zip(volumes, families, strict=True)]
