"""Sessions: the protocol every front end speaks, and the session that runs in this process."""

from __future__ import annotations

from ..protocol import SegmentationSession
from .local import LocalSession

__all__ = ["LocalSession", "SegmentationSession", "open_session"]


def open_session(model: str = "default", device: str = "auto", *, with_probability: bool = False) -> LocalSession:
    """Open a session in this process.

    Args:
        model: a model name (`default`, `fastsam3d`, `sam-med3d-turbo`) or a weights file.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        with_probability: return probability and uncertainty with every MaskUpdate.

    Raises:
        WeightsError: unknown model or unusable file.
        DeviceError: the device is not there.
    """
    from ..devices import choose_device
    from ..engine import Engine
    from ..weights import load_model
    from ..weights.identity import identify

    chosen, _ = choose_device(device)
    engine = Engine(load_model(model, str(chosen)), chosen)
    return LocalSession(engine, with_probability=with_probability, model=identify(model))
