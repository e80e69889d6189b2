"""A scan on its way to the server: voxels in compressed pieces, checked as they arrive, never held twice."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, RemoteError
from ..types import Volume
from .wire import LEVEL, plain, voxel_count, voxel_type

__all__ = ["GEOMETRY_HEADER", "VolumeUpload", "geometry_of", "volume_pieces"]

GEOMETRY_HEADER = "X-FastSAM3D-Volume"
PIECE_BYTES = 4 * 2**20


def geometry_of(volume: Volume) -> str:
    """What the server must know before the voxels come; the value of `GEOMETRY_HEADER`."""
    array = volume.array_kji
    dtype = plain(array[:0]).dtype.str
    return json.dumps({"dtype": dtype, "shape_kji": array.shape, "ijk_to_ras": volume.ijk_to_ras.tolist()})


def volume_pieces(volume: Volume) -> Iterator[bytes]:
    """The voxels in C order, zlib-compressed, piece by piece: a 200 MB scan never lies in memory a second time."""
    array, compressor = volume.array_kji, zlib.compressobj(LEVEL)
    per_slice = max(1, array[0].nbytes)
    step = max(1, PIECE_BYTES // per_slice)
    for k in range(0, array.shape[0], step):
        piece = compressor.compress(np.ascontiguousarray(plain(array[k : k + step])).data)
        if piece:
            yield piece
    yield compressor.flush()


class VolumeUpload:
    """Collects the pieces of one scan.

    Args:
        geometry: the value of `GEOMETRY_HEADER`.
        maximum_bytes: of the voxels, unpacked.

    Raises:
        ImageError: larger than the server takes, or not a usable grid.
        RemoteError: the header is damaged.
    """

    def __init__(self, geometry: str, maximum_bytes: int) -> None:
        try:
            told: dict[str, Any] = json.loads(geometry)
            dtype, shape = voxel_type(told["dtype"]), tuple(int(n) for n in told["shape_kji"])
            self._affine = np.array(told["ijk_to_ras"], dtype=np.float64)
            self.voxels = voxel_count(shape, 2**62)
            grid = np.broadcast_to(np.zeros((), dtype), shape)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise RemoteError(f"The scan's description is damaged ({error}); send it again.") from error
        self.nbytes = self.voxels * dtype.itemsize
        if self.nbytes > maximum_bytes:
            raise ImageError(
                f"The scan takes {self.nbytes / 1e6:.0f} MB; this server takes {maximum_bytes / 1e6:.0f} MB. "
                "Crop it, or ask for a higher limit (--max-volume-mb)."
            )
        Volume(grid, self._affine)  # refuses a bad grid before any voxel is sent
        self._array: NDArray[Any] = np.empty(shape, dtype)
        self._bytes = self._array.reshape(-1).view(np.uint8)
        self._filled = 0
        self._decompressor = zlib.decompressobj()

    def feed(self, piece: bytes) -> None:
        """Take the next bytes from the network.

        Raises:
            RemoteError: not compressed voxels, or more than announced.
        """
        decompressor, full = self._decompressor, True
        while piece or full:
            room = self.nbytes - self._filled
            limit = min(room + 1, PIECE_BYTES)
            try:
                out = decompressor.decompress(piece, limit)
            except zlib.error as error:
                raise RemoteError(f"The scan was damaged on its way ({error}); send it again.") from error
            if len(out) > room or decompressor.unused_data:
                raise RemoteError("More voxels came than were announced; send the scan again.")
            self._bytes[self._filled : self._filled + len(out)] = np.frombuffer(out, np.uint8)
            self._filled += len(out)
            piece, full = decompressor.unconsumed_tail, len(out) == limit

    def volume(self) -> Volume:
        """The scan, once everything has arrived.

        Raises:
            RemoteError: something is missing.
        """
        if self._filled != self.nbytes or not self._decompressor.eof:
            raise RemoteError("The scan did not arrive completely; send it again.")
        return Volume(self._array, self._affine)
