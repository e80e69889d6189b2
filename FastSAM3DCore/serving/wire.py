"""The message format of client and server: numbers and text as JSON, voxels as compressed bytes. Never pickle.

    message   MAGIC, uint32 n (little endian), n bytes of zlib-compressed JSON, then the blocks one after the other
    JSON      {"fields": {...}, "blocks": [{"name", "dtype", "shape", "bits", "bytes"}, ...]}
    block     zlib-compressed voxels in C order; `bits`: eight voxels of {0, 1} per byte, as numpy.packbits does

Every size is checked before memory is taken for it, and decompression stops at the size that was announced.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RemoteError

__all__ = ["MAGIC", "VOXEL_TYPES", "Message", "inflate", "pack", "plain", "unpack", "voxel_count"]

MAGIC = b"FS3D\x01\n"
LENGTH = struct.Struct("<I")
# A log with a hand edit of a million runs takes 8 MB of JSON.
MAXIMUM_JSON_BYTES = 64 * 2**20
# Level 1: a CT shrinks to 55 % at 60 MB/s per core; level 6 gains 3 % more and takes three times as long.
LEVEL = 1

VOXEL_TYPES = frozenset(
    {"|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"},
)

Message = tuple[dict[str, Any], dict[str, NDArray[Any]]]
"""Fields by name, arrays by name."""


def pack(fields: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None, *, bits: str = "") -> bytes:
    """Write a message.

    Args:
        fields: JSON values by name.
        arrays: arrays of a type in `VOXEL_TYPES`, by name.
        bits: name of the array that holds only 0 and 1 and is sent eight voxels per byte.
    """
    described, blocks = [], []
    for name, array in (arrays or {}).items():
        array = plain(array)
        packed = name == bits
        voxels = np.packbits(array != 0) if packed else array
        block = zlib.compress(np.ascontiguousarray(voxels).data, LEVEL)
        described.append(
            {"name": name, "dtype": array.dtype.str, "shape": array.shape, "bits": packed, "bytes": len(block)}
        )
        blocks.append(block)
    head = zlib.compress(json.dumps({"fields": dict(fields), "blocks": described}).encode(), LEVEL)
    return b"".join([MAGIC, LENGTH.pack(len(head)), head, *blocks])


def unpack(data: bytes, *, maximum_voxels: int) -> Message:
    """Read a message.

    Args:
        data: the whole message.
        maximum_voxels: of all arrays together.

    Raises:
        RemoteError: damaged, cut short, or larger than allowed.
    """
    start = len(MAGIC) + LENGTH.size
    if not data.startswith(MAGIC) or len(data) < start:
        raise RemoteError("The message is not of this program's format; client and server must be of the same version.")
    (length,) = LENGTH.unpack_from(data, len(MAGIC))
    try:
        head = json.loads(inflate(data[start : start + length], MAXIMUM_JSON_BYTES))
        fields, described = dict(head["fields"]), list(head["blocks"])
        arrays, at, left = {}, start + length, maximum_voxels
        for block in described:
            size = int(block["bytes"])
            array = _array(block, data[at : at + size], left)
            arrays[str(block["name"])] = array
            at, left = at + size, left - array.size
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RemoteError(f"The message is damaged ({error}); try again.") from error
    if at != len(data):
        raise RemoteError("The message was cut short; try again.")
    return fields, arrays


def _array(block: Mapping[str, Any], data: bytes, maximum_voxels: int) -> NDArray[Any]:
    shape, bits = tuple(int(n) for n in block["shape"]), bool(block["bits"])
    dtype = np.dtype(np.uint8) if bits else voxel_type(block["dtype"])
    count = voxel_count(shape, maximum_voxels)
    expected = (count + 7) // 8 if bits else count * dtype.itemsize
    raw = np.frombuffer(inflate(data, expected), np.uint8 if bits else dtype)
    if raw.nbytes != expected:
        raise ValueError("an array is shorter than announced")
    return (np.unpackbits(raw, count=count) if bits else raw.copy()).reshape(shape)


def voxel_type(name: Any) -> np.dtype[Any]:
    """The dtype of a name in `VOXEL_TYPES`; ValueError for any other."""
    if name not in VOXEL_TYPES:
        raise ValueError(f"voxels of type {name!r} are not sent")
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype


def voxel_count(shape: tuple[int, ...], maximum: int) -> int:
    """Voxels of a shape; ValueError if it is negative, of more than four axes, or too large."""
    if len(shape) > 4 or any(n < 0 for n in shape) or math.prod(shape) > maximum:
        raise ValueError(f"an array of shape {shape} is larger than allowed ({maximum} voxels)")
    return math.prod(shape)


def inflate(data: bytes, maximum: int) -> bytes:
    """Decompress at most `maximum` bytes; ValueError if there is more, or the end is missing."""
    decompressor = zlib.decompressobj()
    try:
        # One byte of room: a stream of exactly `maximum` bytes then reaches its end marker.
        out = decompressor.decompress(data, maximum + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(out) > maximum:
        raise ValueError(f"it unpacks to more than {maximum} bytes")
    if not decompressor.eof:
        raise ValueError("compressed data ends early")
    return out


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """An array in little-endian order and of a type that is sent."""
    array = np.asarray(array)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("<"), copy=False)
