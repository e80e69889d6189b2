"""Which model computes, and where: what the module's panel and the Segment Editor effect have in common."""

from __future__ import annotations

from FastSAM3DCore.types import ModelIdentity

from .Controller import Controller
from .DeferredSession import DeferredSession
from .InstallLogic import InstallLogic


class EngineChoice:
    """Gives a controller the session that the user chose.

    Args:
        controller: gets the session.
        installer: gets the engine ready.
    """

    def __init__(self, controller: Controller, installer: InstallLogic):
        self.controller, self.installer = controller, installer
        self._engine: tuple[str, ...] = ()

    @property
    def remote(self) -> bool:
        """Whether a server computes."""
        return len(self._engine) > 2 and bool(self._engine[2])

    def session(self, *engine: str) -> DeferredSession:
        """A session of (model, device, server URL, key), opened when it is needed."""
        return DeferredSession(lambda: self.installer.openSession(*engine))

    def choose(self, model: str, device: str, serverUrl: str, token: str) -> str:
        """Use this engine from the next prompt on; returns its name if it takes the place of another one."""
        engine = (model, device, serverUrl, token if serverUrl else "")
        if engine == self._engine:
            return ""
        first, self._engine = not self._engine, engine
        expected = None if serverUrl else ModelIdentity(model)
        self.controller.useSession(self.session(*engine), expected)
        return "" if first else serverUrl or model

    def onCpu(self) -> DeferredSession | None:
        """The same model on the CPU: the graphics card ran out of memory. None if that was a server's."""
        model = self._engine[0] if self._engine else "default"
        if self.remote:
            return None
        self._engine = (model, "cpu", "", "")
        return self.session(*self._engine)

    def ready(self, again: bool = False) -> bool:
        """Whether prompts can be computed; asks to install what is missing."""
        return self.remote or self.installer.ensure(again)
