"""The networks that are timed: ours and the plain ones with the same weights, and how the product runs them."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..cuda_graphs import GraphedModule
from ..engine import Engine
from ..errors import WeightsError
from ..modeling.config import STUDENT, TEACHER, Sam3DConfig
from ..modeling.hires import build_hires, student_config
from ..modeling.interface import PromptableModel
from ..modeling.sam3d import Sam3D
from ..weights import load_model

__all__ = [
    "Clicked",
    "Runner",
    "default_network",
    "own_crop_size",
    "plain_network",
    "published_networks",
    "random_weights",
]

Network = TypeVar("Network", bound=nn.Module)

PLAIN_REFERENCE = Path(__file__).parents[2] / "Testing" / "parity" / "plain_reference.py"


@dataclass(frozen=True, slots=True)
class Clicked:
    """What a second click hands to a decoder: two points and the mask so far."""

    points: Tensor
    labels: Tensor
    mask: Tensor

    @classmethod
    def on(cls, size: int, mask_size: int, device: torch.device) -> Clicked:
        """Two clicks in a crop of size^3, the same every time."""
        generator = torch.Generator().manual_seed(1)
        points = torch.tensor([[[0.50, 0.48, 0.52], [0.25, 0.60, 0.70]]]) * size
        mask = torch.randn(1, 1, mask_size, mask_size, mask_size, generator=generator)
        return cls(points.to(device), torch.tensor([[1, 0]], device=device), mask.to(device))


class Runner:
    """Runs a network as the engine does: prepared by it, inference mode, its type, CUDA graphs where there are any.

    Args:
        model: the network, on `device`.
        device: where it computes.
        dtype: of convolutions and matrix products; the device's fastest by default.
    """

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype | None = None) -> None:
        engine = Engine(model, device, dtype=dtype)  # whatever it does to a network once is done here, too
        self.device, self.dtype, self.model = device, engine.dtype, engine.model
        self._encode: Callable[..., Any] = GraphedModule(self.model.encode, device)
        self._decode: Callable[..., Any] = GraphedModule(self.model.decode, device)

    def encode(self, image: Tensor) -> Any:
        """The embedding of crops."""
        with torch.inference_mode(), self._precision():
            return self._encode(image)

    def decode(self, embedding: Any, clicked: Clicked) -> Tensor:
        """Logits of the mask after clicks."""
        with torch.inference_mode(), self._precision():
            logits: Tensor = self._decode(embedding, clicked.points, clicked.labels, clicked.mask)[0]
            return logits

    def _precision(self) -> AbstractContextManager[None]:
        context: AbstractContextManager[None] = torch.autocast(
            self.device.type, self.dtype, enabled=self.dtype != torch.float32
        )
        return context


def published_networks(device: torch.device, size: int = 128) -> tuple[Sam3D, Sam3D]:
    """FastSAM3D's student and SAM-Med3D's teacher with random weights; smaller for a trial run.

    Args:
        device: where to put them.
        size: crop size, a multiple of 16.
    """
    # At a trial size the windows keep their proportion to the grid of tokens, 14 to 8.
    window = TEACHER.window * size // TEACHER.image_size
    student = Sam3D(replace(STUDENT, image_size=size))
    teacher = Sam3D(replace(TEACHER, image_size=size, window=window))
    return random_weights(student).to(device).eval(), random_weights(teacher).to(device).eval()


def plain_network(model: Sam3D, device: torch.device) -> Any | None:
    """The unoptimised reference with the same weights; None outside a source checkout, which has it under Testing."""
    if not PLAIN_REFERENCE.is_file():
        return None
    spec = importlib.util.spec_from_file_location("plain_reference", PLAIN_REFERENCE)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config: Sam3DConfig = model.config
    plain: nn.Module = module.PlainSam3D(config)
    plain.load_state_dict(model.state_dict())
    return plain.to(device).eval()


def default_network(device: torch.device) -> tuple[PromptableModel, bool]:
    """The bundled network, and whether its weights are the real ones: a checkout may not have them yet."""
    try:
        return load_model("default", str(device)), True
    except WeightsError:
        return random_weights(build_hires(student_config())).to(device).eval(), False


def own_crop_size(model: PromptableModel, device: torch.device) -> int:
    """Voxels per axis of the crops that sessions cut for a network."""
    return Engine(model, device).traits.crop_size


def random_weights(model: Network) -> Network:
    """Fill a network so that signals neither vanish nor explode, the same every time."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim <= 1:
                tensor.copy_(1 + 0.1 * noise if name.endswith("weight") else 0.05 * noise)
            else:
                tensor.copy_(noise / math.sqrt(tensor[0].numel()))
    return model
