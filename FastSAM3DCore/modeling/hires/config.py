"""The shape of one network of the family, stored as JSON beside its weights."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from ...errors import WeightsError

__all__ = ["ARCH", "HiresConfig", "student_config", "teacher_config"]

ARCH = "fastsam3d-hires"


@dataclass(frozen=True, slots=True)
class HiresConfig:
    """Widths and depths; teacher and student differ in the trunk alone.

    Attributes:
        name: model name shown to users.
        crop_size: largest crop the engine should cut, voxels per axis.
        stem: channels at 1/2 resolution in the encoder.
        middle: channels at 1/4 resolution in the encoder.
        width: channels of the trunk at 1/8 resolution.
        heads: attention heads of the trunk.
        depth: blocks of the trunk.
        attention_from: blocks before this one have no attention (FastSAM3D: 2 of 6).
        window: tokens per axis of a sparse attention group; 0 means dense attention.
        embedding: channels of the click-similarity embedding at 1/2 resolution.
        decoder: channels of the decoder at 1/2, 1/4 and 1/8 resolution.
        decoder_blocks: mixing blocks of the decoder at 1/8 resolution.
    """

    name: str = "default"
    crop_size: int = 96
    stem: int = 32
    middle: int = 64
    width: int = 192
    heads: int = 6
    depth: int = 6
    attention_from: int = 2
    window: int = 4
    embedding: int = 16
    decoder: tuple[int, int, int] = (16, 48, 96)
    decoder_blocks: int = 1

    def to_json(self) -> str:
        """The configuration as JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> HiresConfig:
        """Read what `to_json` wrote.

        Raises:
            WeightsError: if it is not JSON, or a key is unknown.
        """
        try:
            values: dict[str, Any] = json.loads(text)
        except json.JSONDecodeError as error:
            raise WeightsError(f"the network configuration is not JSON ({error}); export the weights again") from error
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise WeightsError(f"unknown network settings {unknown}; these weights need a newer version of FastSAM3D")
        if "decoder" in values:
            values["decoder"] = tuple(values["decoder"])
        return cls(**values)


def student_config() -> HiresConfig:
    """Six blocks, the first two without attention, sparse attention in the others: the bundled network."""
    return HiresConfig()


def teacher_config() -> HiresConfig:
    """Twelve blocks of dense attention: what the student is distilled from."""
    return HiresConfig(name="teacher", depth=12, attention_from=0, window=0)
