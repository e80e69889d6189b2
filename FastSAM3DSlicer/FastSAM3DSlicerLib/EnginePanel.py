"""The panel's Model section: which engine, getting it ready, weights in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .Controller import Controller
from .EngineChoice import EngineChoice
from .InstallLogic import InstallLogic
from .Job import Job


def nothing(*_: Any) -> None:
    """Nobody waits for this one."""


class EnginePanel(EngineChoice):
    """Chooses the session and looks after models."""

    def __init__(self, controller: Controller, installer: InstallLogic):
        super().__init__(controller, installer)
        self.models = installer.models()

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
