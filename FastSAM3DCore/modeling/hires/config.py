"""The shape of one network of the family, stored as JSON beside its weights."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from ...errors import WeightsError

__all__ = ["ARCH", "HiresConfig", "student_config", "teacher_config"]

ARCH = "fastsam3d-hires"

_LARGEST = 1024  # five times the teacher's width; even so large a network is built on "meta" in seconds
_MAY_BE_ZERO = ("attention_from", "window", "decoder_blocks")


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

    Raises:
        WeightsError: a value of another type, or out of range.
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

    def __post_init__(self) -> None:
        sizes: dict[str, Any] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        name, decoder = sizes.pop("name"), sizes.pop("decoder")
        if not isinstance(name, str):
            raise _unusable("name", "text", name)
        if not isinstance(decoder, tuple) or len(decoder) != 3:
            raise _unusable("decoder", "three whole numbers", decoder)
        sizes |= {f"decoder[{n}]": channels for n, channels in enumerate(decoder)}
        for key, value in sizes.items():
            least = 0 if key in _MAY_BE_ZERO else 1
            if type(value) is not int or not least <= value <= _LARGEST:  # True is an int to isinstance
                raise _unusable(key, f"a whole number from {least} to {_LARGEST}", value)

    def to_json(self) -> str:
        """The configuration as JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> HiresConfig:
        """Read what `to_json` wrote.

        Raises:
            WeightsError: if it is not a JSON object, or a key or a value is not known.
        """
        try:
            values: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"the network configuration is not JSON ({error}); export the weights again") from error
        if not isinstance(values, dict):
            raise WeightsError("the network configuration is not a JSON object; export the weights again")
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise WeightsError(f"unknown network settings {unknown}; these weights need a newer version of FastSAM3D")
        if isinstance(values.get("decoder"), list):
            values["decoder"] = tuple(values["decoder"])
        return cls(**values)


def _unusable(key: str, wanted: str, value: Any) -> WeightsError:
    return WeightsError(
        f"the network setting {key} must be {wanted}, not {value!r:.60}; correct it, or export the weights again"
    )


def student_config() -> HiresConfig:
    """Six blocks, the first two without attention, sparse attention in the others: the bundled network."""
    return HiresConfig()


def teacher_config() -> HiresConfig:
    """Twelve blocks of dense attention: what the student is distilled from."""
    return HiresConfig(name="teacher", depth=12, attention_from=0, window=0)
