"""The panel's Model section: which engine, getting it ready, weights in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from FastSAM3DCore.types import ModelIdentity

from .Controller import Controller
from .DeferredSession import DeferredSession
from .InstallLogic import InstallLogic
from .Job import Job


def nothing(*_: Any) -> None:
    """Nobody waits for this one."""


class EnginePanel:
    """Chooses the session and looks after models.

    Args:
        controller: gets the session.
        installer: gets the engine ready.
    """

    def __init__(self, controller: Controller, installer: InstallLogic):
        self.controller, self.installer = controller, installer
        self._engine: tuple[str, ...] = ()
        self.models = installer.models()

    @property
    def remote(self) -> bool:
        """Whether a server computes."""
        return len(self._engine) > 2 and bool(self._engine[2])

    @property
    def chosen(self) -> bool:
        """Whether an engine was chosen yet."""
        return bool(self._engine)

    def session(self, *engine: str) -> DeferredSession:
        """A session of (model, device, server URL, key), opened when it is needed."""
        return DeferredSession(lambda: self.installer.openSession(*engine))

    def choose(self, model: str, device: str, serverUrl: str, token: str) -> str:
        """Use this engine from the next prompt on; returns its name if it is another than before."""
        engine = (model, device, serverUrl, token if serverUrl else "")
        if engine == self._engine:
            return ""
        self._engine = engine
        expected = None if serverUrl else ModelIdentity(model)
        self.controller.useSession(self.session(*engine), expected)
        return serverUrl or model

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

    def resume(self) -> None:
        """Go on with an installation that had to restart Slicer."""
        if self.installer.resuming:
            self.ready(again=True)

    def test(self, found: Callable[[str], None]) -> None:
        """Load the model or reach the server on the worker, and tell what was found."""
        if not self.ready(again=True):
            return
        session, (_, device, serverUrl, _) = self.controller.session, self._engine or ("", "auto", "", "")

        def call() -> str:
            model = session.open().model
            return f"{model} at {serverUrl}" if serverUrl else f"{model} on {self.installer.proveDevice(device)}"

        self._run("loading the model", call, found)

    def importWeights(self, path: str, done: Callable[[str], None]) -> None:
        """Take a weights file into use, on the worker; `done` gets its name."""
        if path and self.ready():

            def imported(name: str) -> None:
                self.models = self.installer.models()
                done(name)

            self._run("importing weights", lambda: self.installer.importWeights(path), imported)

    def removeDownloads(self) -> str:
        """Delete downloaded models; returns what to say."""
        text = self.installer.removeDownloads()
        self.models = self.installer.models()
        return text

    def _run(self, title: str, call: Callable[[], str], done: Callable[[str], None]) -> None:
        def apply(answer: str) -> Any:
            done(answer)
            return None

        self.controller.runner.submit(lambda: Job(title, call, apply, nothing), nothing)
