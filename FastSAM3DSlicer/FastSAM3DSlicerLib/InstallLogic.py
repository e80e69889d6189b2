"""What the engine needs from the outside: PyTorch, two small packages, a device, downloaded models.

Nothing is imported or installed before the first prompt. The user is asked once, told size and time. PyTorch
comes only through the PyTorch extension, which picks the build for the graphics card; numpy and SimpleITK belong
to Slicer and are never touched.
"""

from __future__ import annotations

import importlib.util
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from FastSAM3DCore.errors import FastSAM3DError, WeightsError

logger = logging.getLogger(__name__)

RESUME_SETTING = "FastSAM3D/ResumeInstall"
# PyTorch: 200 MB download for the CPU build, 2.5 GB with CUDA; measured by the wheels' sizes.
QUESTION = (
    "FastSAM3D needs PyTorch, which is not installed in this Slicer yet.\n\n"
    "Download: about 200 MB, or 2.5 GB if a graphics card is used. Time: 2 to 15 minutes, once.\n"
    "Nothing else in Slicer is changed. Install now?"
)
EXTENSION_QUESTION = (
    "PyTorch is installed by Slicer's PyTorch extension, which is not there yet. Install the extension now? "
    "Slicer then restarts and goes on from here. Save your work first."
)
PACKAGES_QUESTION = (
    "FastSAM3D needs Python packages that are not installed in this Slicer yet: {packages}.\n\n"
    "Download: about 1 MB. Nothing else in Slicer is changed. Install now?"
)
# What pip, Slicer's packaging, the PyTorch extension and the first import of torch are known to raise.
INSTALLATION_ERRORS = (RuntimeError, subprocess.CalledProcessError, ImportError, OSError)


class Host(Protocol):
    """What is needed from the application; the tests bring their own."""

    def confirm(self, text: str) -> bool: ...

    def torchLogic(self) -> Any | None:
        """The PyTorch extension's logic, or None if the extension is missing."""
        ...

    def installExtension(self, name: str) -> None: ...

    def installRequirements(self, path: Path) -> None:
        """The user has agreed already."""
        ...

    def setting(self, key: str, default: str) -> str: ...

    def setSetting(self, key: str, value: str) -> None: ...


class SlicerHost:
    """The real application."""

    def confirm(self, text: str) -> bool:
        import slicer

        return slicer.util.confirmOkCancelDisplay(text, "FastSAM3D")

    def torchLogic(self) -> Any | None:
        try:
            import PyTorchUtils
        except ModuleNotFoundError:
            return None
        return PyTorchUtils.PyTorchUtilsLogic()

    def installExtension(self, name: str) -> None:
        import slicer

        manager = slicer.app.extensionsManagerModel()
        manager.interactive = False
        if not manager.installExtensionFromServer(name, True):
            raise FastSAM3DError(
                f"The {name} extension could not be installed. Install it in the Extensions Manager and restart Slicer."
            )

    def installRequirements(self, path: Path) -> None:
        import slicer

        try:
            from slicer import packaging
        except ImportError:  # before 5.12
            missing = [line for line in requirementLines(path) if not isInstalled(line)]
            if missing:
                # --no-deps: what these packages need is part of Slicer, and stays in Slicer's versions.
                slicer.util.pip_install(["--no-deps", *missing])
            return
        packaging.pip_ensure(packaging.load_requirements(str(path)), prompt_install=False, requester="FastSAM3D")

    def setting(self, key: str, default: str) -> str:
        import slicer

        return str(slicer.app.userSettings().value(key, default))

    def setSetting(self, key: str, value: str) -> None:
        import slicer

        slicer.app.userSettings().setValue(key, value)


class InstallLogic:
    """Gets ready what the first prompt needs.

    Args:
        requirements: the module's requirements.txt.
        host: the application.
        torchInstalled: whether `import torch` would work, without doing it.
    """

    def __init__(
        self,
        requirements: Path,
        host: Host | None = None,
        torchInstalled: Callable[[], bool] = lambda: importlib.util.find_spec("torch") is not None,
    ):
        self._requirements, self._host, self._torchInstalled = requirements, host or SlicerHost(), torchInstalled
        self._refused = False

    @property
    def ready(self) -> bool:
        """Whether prompts can be computed on this computer right now; costs nothing."""
        return self._torchInstalled() and all(isInstalled(line) for line in requirementLines(self._requirements))

    @property
    def resuming(self) -> bool:
        """Whether Slicer was restarted in the middle of an installation."""
        return self._host.setting(RESUME_SETTING, "0") == "1"

    def ensure(self, again: bool = False) -> bool:
        """Install what is missing; asks the user once per session.

        Args:
            again: ask even if the user said no before, or it failed.

        Raises:
            FastSAM3DError: the installation failed; the message says what to do.
        """
        if self.ready:
            self._host.setSetting(RESUME_SETTING, "0")
            return True
        if self._refused and not again:
            return False
        self._refused = True  # as long as it has not worked
        agreed = self._agreed()
        self._host.setSetting(RESUME_SETTING, "0")  # what fails now is not tried again at each start
        if not agreed:
            return False
        try:
            self._install()
        except INSTALLATION_ERRORS as error:
            logger.warning("The installation failed: %s", error)
            pip = isinstance(error, subprocess.CalledProcessError)
            reason = "pip could not download or install a package" if pip else " ".join(str(error).split()).rstrip(".")
            raise FastSAM3DError(
                f"The installation failed: {reason}. Check the internet connection and the Python console, then press "
                "Test in the FastSAM3D module to try again."
            ) from error
        self._refused = False
        return True

    def _agreed(self) -> bool:
        """Ask the one question there is, unless it was answered before Slicer was restarted."""
        if not self._torchInstalled() and self._host.torchLogic() is None:
            return self._host.confirm(EXTENSION_QUESTION)
        if self.resuming:
            return True
        missing = [line for line in requirementLines(self._requirements) if not isInstalled(line)]
        packages = PACKAGES_QUESTION.format(packages=", ".join(missing))
        return self._host.confirm(packages if self._torchInstalled() else QUESTION)

    def _install(self) -> None:
        """What is missing, in the order it is needed."""
        if not self._torchInstalled():
            logic = self._host.torchLogic()
            if logic is None:
                self._installExtension()
            elif logic.installTorch(askConfirmation=False) is None:
                raise FastSAM3DError("PyTorch was not installed; open the PyTorch Util module to see why.")
        self._host.installRequirements(self._requirements)
        importlib.invalidate_caches()
        if not self.ready:
            raise FastSAM3DError("The installation did not complete; see the Python console, then try again.")

    def _installExtension(self) -> None:
        self._host.setSetting(RESUME_SETTING, "1")  # before: Slicer may restart at once
        try:
            self._host.installExtension("PyTorch")
        except Exception:
            self._host.setSetting(RESUME_SETTING, "0")
            raise
        raise FastSAM3DError("Restart Slicer to finish installing PyTorch; FastSAM3D goes on from there.")

    @staticmethod
    def openSession(model: str, device: str, serverUrl: str = "", token: str = "") -> Any:
        """A session as the panel asks for it; slow (imports torch, loads weights), so for the worker."""
        if serverUrl:
            from FastSAM3DCore.serving import RemoteSession

            return RemoteSession(serverUrl, token)
        from FastSAM3DCore import open_session

        return open_session(model, device)

    @staticmethod
    def proveDevice(device: str) -> str:
        """Run one kernel on the device and say what it is, or why the CPU is used; for the worker."""
        from FastSAM3DCore.devices import choose_device

        return choose_device(device).description

    @staticmethod
    def removeDownloads() -> str:
        """Delete every downloaded or imported model; the bundled one stays."""
        from FastSAM3DCore.weights.cache import WeightsCache, cache_folder

        cache, freed, count = WeightsCache(cache_folder()), 0, 0
        for name in list(cache.records()):
            freed += cache.remove(name)
            count += 1
        return f"{count} model{'s' * (count != 1)} removed, {freed / 1e6:.0f} MB freed."

    @staticmethod
    def importWeights(path: str) -> str:
        """Take a weights file into use; returns the name to choose it by; for the worker (seconds to minutes)."""
        from FastSAM3DCore.weights.cache import WeightsCache, cache_folder
        from FastSAM3DCore.weights.install import import_weights

        return import_weights(Path(path), WeightsCache(cache_folder()))[0]

    @staticmethod
    def models() -> dict[str, tuple[str, str]]:
        """Models to choose from: {name: (one sentence, licence with a link)}; loads no torch."""
        from FastSAM3DCore.weights.cache import WeightsCache, cache_folder
        from FastSAM3DCore.weights.manifest import load_manifest

        known = {
            entry.name: (
                f"{entry.description} ({entry.approximate_mb} MB)",
                f'<a href="{entry.licence_url}">{entry.licence}</a>',
            )
            for entry in load_manifest().values()
        }
        try:
            imported = WeightsCache(cache_folder()).records()
        except WeightsError as error:
            logger.warning("%s", error)
            imported = {}
        for name, record in imported.items():
            known.setdefault(name, (f"Imported from {record.source}.", "as stated by its source"))
        return known


def requirementLines(path: Path) -> list[str]:
    """The requirements of a file, comments left out."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def isInstalled(requirement: str) -> bool:
    """Whether a package is there in a version that will do."""
    from importlib.metadata import PackageNotFoundError, version

    name, _, minimum = requirement.partition(">=")
    try:
        found = version(name.strip())
    except PackageNotFoundError:
        return False
    return not minimum or numbers(found) >= numbers(minimum)


def numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparison."""
    parts = []
    for part in text.strip().split("."):
        digits = "".join(ch for ch in part if ch.isdigit())
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts)
