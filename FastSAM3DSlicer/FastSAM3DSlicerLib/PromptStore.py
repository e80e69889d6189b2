"""A segment's prompt log, kept in the segment itself: it survives .mrb scenes, .seg.nrrd files and copies.

The tag's value is base64 text: a header and one fragment per prompt, joined by dots. Only the fragment of a new
prompt is encoded at a click; a hand edit's voxels alone can take 10 ms.
"""

from __future__ import annotations

import base64
import json
import zlib
from functools import lru_cache
from typing import Any

import numpy as np

from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.prompts import Prompt, prompts_from_json, prompts_to_json
from FastSAM3DCore.types import ModelIdentity

from .EditMask import tagValue
from .History import SegmentLog

LOG_TAG = "FastSAM3D.Log"
STORE_FORMAT = "fastsam3d-segment/1"


def fingerprint(sliceCounts: np.ndarray) -> int:
    """Tells whether a segment still holds what it held: voxel counts per slice, wherever the extent begins.

    The counts are at hand; hashing the voxels would take 20 ms for a large organ. Any real edit changes a count.
    """
    return zlib.crc32(np.trim_zeros(sliceCounts).astype("<i8").tobytes())


def store(segment: Any, frame: int, log: SegmentLog, sliceCounts: np.ndarray) -> None:
    """Write the log of one time point into the segment's tag; logs of other time points stay."""
    header, fragments = _read(segment)
    frames = dict(header.get("frames", {}))
    kept = {name: fragments[at["first"] : at["first"] + at["count"]] for name, at in frames.items()}
    kept[str(frame)] = [_encoded(prompt) for prompt in log.prompts]
    frames[str(frame)] = {"threshold": log.threshold, "content": fingerprint(sliceCounts)}
    if log.model is not None:
        frames[str(frame)]["model"] = {"name": log.model.name, "sha256": log.model.sha256}
    body: list[str] = []
    for name, entries in kept.items():
        frames[name] |= {"first": len(body), "count": len(entries)}
        body += entries
    header = {"format": STORE_FORMAT, "frames": frames}
    segment.SetTag(LOG_TAG, ".".join([_pack(json.dumps(header)), *body]))


def load(segment: Any, frame: int, sliceCounts: np.ndarray) -> SegmentLog | None:
    """The log stored for a time point, if the segment still holds the mask that it led to.

    Returns:
        None if there is no log, it cannot be read, or the segment was edited since.
    """
    header, fragments = _read(segment)
    at = header.get("frames", {}).get(str(frame))
    if at is None or at.get("content") != fingerprint(sliceCounts):
        return None
    try:
        prompts = [
            prompt
            for fragment in fragments[at["first"] : at["first"] + at["count"]]
            for prompt in prompts_from_json(_unpack(fragment))
        ]
    except (PromptError, ValueError, zlib.error):
        return None
    return SegmentLog(tuple(prompts), float(at["threshold"]), _model(at))


def storedModel(segment: Any, frame: int = 0) -> ModelIdentity | None:
    """Name and SHA-256 of the weights that made the segment at a time point; None if it was not made with any."""
    return _model(_read(segment)[0].get("frames", {}).get(str(frame), {}))


def _model(at: dict[str, Any]) -> ModelIdentity | None:
    model = at.get("model")
    return ModelIdentity(str(model.get("name", "")), str(model.get("sha256", ""))) if isinstance(model, dict) else None


def _read(segment: Any) -> tuple[dict[str, Any], list[str]]:
    text = tagValue(segment, LOG_TAG)
    if not text:
        return {}, []
    head, *fragments = text.split(".")
    try:
        header = json.loads(_unpack(head))
    except (ValueError, zlib.error):
        return {}, []
    if not isinstance(header, dict) or header.get("format") != STORE_FORMAT:
        return {}, []
    return header, fragments


@lru_cache(maxsize=4096)
def _encoded(prompt: Prompt) -> str:
    return _pack(prompts_to_json([prompt]))


def _pack(text: str) -> str:
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 1)).decode()


def _unpack(text: str) -> str:
    return zlib.decompress(base64.urlsafe_b64decode(text.encode())).decode()
