"""Settings that travel from the command line through the front to each worker process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["MEGABYTE", "FrontConfig", "WorkerConfig", "default_state_dir"]

MEGABYTE = 1 << 20


def default_state_dir() -> Path:
    """Where autosaves live: the platform's state folder, private to the user."""
    import os

    base = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".local" / "state") / "fastsam3d" / "web"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What one worker needs to know; sent to it as JSON on its standard input.

    Attributes:
        secret: the worker answers only requests that carry it, so that other users of the machine can't reach it.
        state_dir: this browser's private folder for uploads and autosave.
        scan: file or DICOM folder to open, or None for the sample scan.
        segmentation: file whose segments to continue from.
        frame, series: which volume of `scan`, as in `FastSAM3DCore.io.load_volume`.
        model: name or file of the weights.
        device: "auto", "cpu", "cuda", ...
        session: "module:function" that opens the engine's session.
        max_upload: bytes one upload may hold, unpacked.
    """

    secret: str
    state_dir: str
    scan: str | None = None
    segmentation: str | None = None
    frame: int | None = None
    series: str | None = None
    model: str = "default"
    device: str = "auto"
    session: str = "FastSAM3DCore:open_session"
    max_upload: int = 2048 * MEGABYTE

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerConfig:
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class FrontConfig:
    """How the front listens and how long it keeps workers.

    Attributes:
        host: address to bind; anything but loopback needs a token.
        port: TCP port; 0 takes a free one.
        token: password of the page; empty only on loopback.
        max_sessions: browsers served at once; each has its own process with its own copy of the model.
        idle_seconds: a worker ends after this long without an open page; its work is kept in `state_dir`.
        keep_days: autosaves older than this are deleted at start.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str = ""
    max_sessions: int = 4
    idle_seconds: float = 600.0
    keep_days: float = 30.0
    state_dir: Path = field(default_factory=default_state_dir)
