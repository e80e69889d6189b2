"""The engine's session: loaded once, in the background, and waited for by every prompt."""

from __future__ import annotations

import asyncio
import logging
from importlib import import_module
from typing import Any

from FastSAM3DCore.errors import DeviceError, FastSAM3DError

from .config import WorkerConfig
from .runner import Runner

__all__ = ["Engine"]

log = logging.getLogger(__name__)


class Engine:
    """Opens the session that the settings name.

    Attributes:
        session: None until it is there.
    """

    def __init__(self, config: WorkerConfig, runner: Runner) -> None:
        self._config, self._runner = config, runner
        self.session: Any = None
        self._tried = asyncio.Event()
        self._failure: FastSAM3DError | None = None

    async def load(self) -> Any:
        """Open the session on the engine's thread.

        Raises:
            FastSAM3DError: it cannot be had; `ready` says the same from now on.
        """
        try:
            self.session = await self._runner.call(self._open)
        except FastSAM3DError as error:
            self._failure = error
        except Exception as error:  # a driver or a broken installation can raise anything
            log.error("the engine cannot be loaded", exc_info=error)
            reason = f"{type(error).__name__}: {error}"
            self._failure = DeviceError(f"The model cannot be loaded ({reason}). 'fastsam3d doctor' may tell why.")
        self._tried.set()
        return await self.ready()

    def _open(self) -> Any:
        module, function = self._config.session.split(":")
        return getattr(import_module(module), function)(self._config.model, self._config.device)

    async def ready(self) -> Any:
        """The session, once it is there.

        Raises:
            FastSAM3DError: it could not be loaded.
        """
        await self._tried.wait()
        if self._failure is not None:
            raise self._failure
        return self.session
