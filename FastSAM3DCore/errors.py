"""The project's exceptions. Every message says what is wrong and what to do about it.

    FastSAM3DError
    ├── PromptError        a prompt cannot be applied (outside the scan, inverted box, ...)
    ├── ImageError         a scan cannot be used (unreadable, 2D, NaN, singular geometry, ...)
    ├── WeightsError       a weights file is missing, corrupt, unsafe or of another architecture
    ├── DeviceError        a compute device is missing or ran out of memory
    ├── OutputError        a result cannot be written
    ├── RemoteError        a server refused or could not be reached
    └── CancelledError     the user cancelled

Front ends translate once, at their edge: the command line prints the message and exits with 2, the
HTTP server answers with `http_status`, Slicer shows the message in the status line.
"""

from __future__ import annotations

__all__ = [
    "CancelledError",
    "DeviceError",
    "FastSAM3DError",
    "ImageError",
    "OutputError",
    "PromptError",
    "RemoteError",
    "WeightsError",
]


class FastSAM3DError(Exception):
    """Base class; catch it to catch everything the project raises on purpose."""

    http_status: int = 500


class PromptError(FastSAM3DError, ValueError):
    """A prompt was rejected; the session is exactly as it was before the call."""

    http_status = 422


class ImageError(FastSAM3DError, ValueError):
    """A scan or label map cannot be read or used."""

    http_status = 422


class WeightsError(FastSAM3DError):
    """Weights are missing, corrupt, unsafe or belong to another architecture."""

    http_status = 409


class DeviceError(FastSAM3DError):
    """The requested compute device is not there, does not work or ran out of memory."""

    http_status = 503


class OutputError(FastSAM3DError):
    """A result could not be written; whatever was at the target path is untouched."""

    http_status = 507


class RemoteError(FastSAM3DError):
    """A remote session failed: unreachable server, refused token, lost session."""

    http_status = 502


class CancelledError(FastSAM3DError):
    """The running operation was cancelled; nothing was changed."""

    http_status = 499
