"""Reuse of scenes: making one costs as much as training on it, so each is met about twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .draw import Draw, Shape
from .engine import DataEngine
from .scenes import Scene

__all__ = ["Batch", "ScenePool"]

_FEW = 8  # scenes there have to be before one is met again


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops with K targets each.

    Attributes:
        image: (B, 1, D, H, W) float32.
        targets: (B * K, D, H, W) bool, targets of one crop are neighbours.
        kinds: of the B scenes.
    """

    image: Tensor
    targets: Tensor
    kinds: list[str]


@dataclass
class ScenePool:
    """Scenes made lately, by shape; its state is their numbers alone, because scenes can be made again."""

    engine: DataEngine
    reuse: float
    capacity: int = 64  # of each cube; other shapes are an eighth of the batches, spread over many
    stride: int = 1  # ranks of a distributed run interleave their scene numbers
    following: int = 0
    kept: dict[Shape, list[tuple[int, Scene]]] = field(default_factory=dict)

    def batch(self, draw: Draw, shape: Shape, crops: int, targets: int) -> Batch:
        """A batch: new scenes or kept ones, each turned and flipped at random."""
        images, masks, kinds = [], [], []
        for _ in range(crops):
            scene = self._next(draw, shape)
            image, chosen = _turned(draw, scene, targets)
            images.append(image)
            masks.append(chosen)
            kinds.append(scene.kind)
        return Batch(torch.stack(images)[:, None], torch.cat(masks), kinds)

    def state(self) -> dict[str, object]:
        """Numbers to make the pool again."""
        return {"following": self.following, "kept": {s: [n for n, _ in kept] for s, kept in self.kept.items()}}

    def restore(self, state: Mapping[str, object]) -> None:
        """Make the scenes named in `state` again."""
        following, kept = state["following"], state["kept"]
        if not isinstance(following, int) or not isinstance(kept, dict):
            raise ValueError("the checkpoint's data state is malformed; start from an older checkpoint")
        self.following = following
        self.kept = {
            shape: [(n, self.engine.scene(n, shape)) for n in numbers[-self._most(shape) :]]
            for shape, numbers in kept.items()
        }

    def _next(self, draw: Draw, shape: Shape) -> Scene:
        kept = self.kept.setdefault(shape, [])
        if len(kept) >= min(_FEW, self.capacity) and draw.chance(self.reuse):
            return draw.choice(kept)[1]
        scene = self.engine.scene(self.following, shape)
        kept.append((self.following, scene))
        self.following += self.stride
        if len(kept) > self._most(shape):
            kept.pop(0)
        return scene

    def _most(self, shape: Shape) -> int:
        """A resumed run makes all kept scenes again, so what is rarely drawn keeps few."""
        return self.capacity if shape[0] == shape[1] == shape[2] else min(self.capacity, max(_FEW, self.capacity // 8))


def _turned(draw: Draw, scene: Scene, wanted: int) -> tuple[Tensor, Tensor]:
    """Random axis order (cubes only), flips and inversion; `wanted` of the scene's targets."""
    order = list(range(len(scene.targets)))
    draw.python.shuffle(order)
    picks = [order[k % len(order)] for k in range(wanted)]
    image, masks = scene.image, scene.targets[picks]
    if image.shape[0] == image.shape[1] == image.shape[2]:
        axes = [0, 1, 2]
        draw.python.shuffle(axes)
        image = image.permute(axes)
        masks = masks.permute(0, *(a + 1 for a in axes))
    flips = [a for a in range(3) if draw.chance(0.5)]
    if flips:
        image, masks = image.flip(flips), masks.flip([a + 1 for a in flips])
    if draw.chance(0.2):
        image = -image
    return image.contiguous(), masks.contiguous()
