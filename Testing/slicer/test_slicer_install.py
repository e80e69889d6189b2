"""Getting the engine ready: asked once, torch through the extension only, numpy and SimpleITK never touched."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from FastSAM3DCore.errors import FastSAM3DError
from FastSAM3DSlicerLib.InstallLogic import (
    EXTENSION_QUESTION,
    QUESTION,
    RESUME_SETTING,
    InstallLogic,
    SlicerHost,
    isInstalled,
    numbers,
    requirementLines,
)
from Testing.slicer.conftest import ROOT

REQUIREMENTS = ROOT / "FastSAM3DSlicer" / "Resources" / "requirements.txt"


class Application:
    """A Slicer without torch, whose user and extensions do as told; `failures` says what raises what."""

    def __init__(self, yes=True, extension=True, works=True):
        self.yes, self.extension, self.works = yes, extension, works
        self.torch = False
        self.failures = {}
        self.questions, self.installed, self.settings = [], [], {}

    def confirm(self, text):
        self.questions.append(text)
        return self.yes

    def torchLogic(self):
        return self if self.extension else None

    def installTorch(self, askConfirmation):
        assert askConfirmation is False  # it was asked already
        self.fail("torch")
        self.torch = self.works
        self.installed.append("torch")
        return types.ModuleType("torch") if self.works else None

    def installExtension(self, name):
        self.fail(name)
        self.installed.append(name)

    def installRequirements(self, path):
        self.fail("packages")
        self.installed += requirementLines(path)

    def fail(self, what):
        if what in self.failures:
            raise self.failures[what]

    def setting(self, key, default):
        return self.settings.get(key, default)

    def setSetting(self, key, value):
        self.settings[key] = value


def logicFor(application, requirements=REQUIREMENTS):
    return InstallLogic(requirements, application, lambda: application.torch)


def test_the_question_names_size_and_time_and_is_asked_once():
    application = Application()
    logic = logicFor(application)
    assert not logic.ready
    assert logic.ensure()
    assert logic.ensure()
    assert application.questions == [QUESTION]
    assert "200 MB" in QUESTION
    assert "minutes" in QUESTION


def test_a_no_is_remembered_until_the_user_asks_for_it():
    application = Application(yes=False)
    logic = logicFor(application)
    assert not logic.ensure()
    assert not logic.ensure()
    assert len(application.questions) == 1
    assert application.installed == []
    application.yes = True
    assert logic.ensure(again=True)


def test_a_missing_pytorch_extension_is_installed_and_work_resumes_after_the_restart():
    application = Application(extension=False)
    with pytest.raises(FastSAM3DError, match="Restart Slicer"):
        logicFor(application).ensure()
    assert application.installed == ["PyTorch"]
    assert application.settings[RESUME_SETTING] == "1"
    application.extension, application.questions = True, []  # after the restart
    logic = logicFor(application)
    assert logic.resuming
    assert logic.ensure()
    assert application.questions == []  # the user had said yes
    assert application.settings[RESUME_SETTING] == "0"


def test_an_installation_that_does_not_work_says_where_to_look():
    with pytest.raises(FastSAM3DError, match="PyTorch Util"):
        logicFor(Application(works=False)).ensure()


PIP = subprocess.CalledProcessError(1, ["pip", "install", "torch"])


@pytest.mark.parametrize(
    ("what", "failure", "said"),
    [
        ("torch", RuntimeError("User declined package installation"), "User declined package installation"),
        ("torch", PIP, "pip could not"),
        ("torch", ImportError("DLL load failed\nwhile importing torch"), "DLL load failed while importing torch."),
        ("torch", OSError("[WinError 126] Error loading c10.dll"), "WinError 126"),
        ("packages", RuntimeError("User declined package installation"), "User declined package installation"),
        ("packages", PIP, "pip could not"),
    ],
)
def test_a_failed_installation_says_what_to_do_and_is_tried_again_only_when_asked_for(what, failure, said, tmp_path):
    application, requirements = Application(), REQUIREMENTS
    application.failures[what] = failure
    if what == "packages":
        requirements = tmp_path / "requirements.txt"
        requirements.write_text("surely-not-installed>=1.0")
    logic = logicFor(application, requirements)
    with pytest.raises(FastSAM3DError, match="press Test in the FastSAM3D module") as raised:
        logic.ensure()
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not logic.ensure()
    assert len(application.questions) == 1
    application.failures.clear()
    assert not logic.ensure()
    if what == "torch":
        assert logic.ensure(again=True)
        assert logic.ensure()


def test_a_failed_installation_is_not_gone_on_with_at_each_start():
    application = Application()
    application.settings[RESUME_SETTING] = "1"
    application.failures["torch"] = PIP
    with pytest.raises(FastSAM3DError):
        logicFor(application).ensure(again=True)
    assert not logicFor(application).resuming
    for extension in (Application(extension=False), Application(extension=False, yes=False)):
        extension.failures["PyTorch"] = FastSAM3DError("The PyTorch extension could not be installed.")
        extension.settings[RESUME_SETTING] = "1"
        logic = logicFor(extension)
        if extension.yes:
            with pytest.raises(FastSAM3DError, match="could not be installed"):
                logic.ensure(again=True)
        else:
            assert not logic.ensure(again=True)
        assert extension.questions == [EXTENSION_QUESTION]
        assert not logic.resuming


def test_packages_alone_are_asked_for_by_name_and_once(tmp_path):
    application = Application()
    application.torch = True
    path = tmp_path / "requirements.txt"
    path.write_text("numpy>=1.9\nsurely-not-installed>=1.0\n")
    logic = logicFor(application, path)
    application.yes = False
    assert not logic.ensure()
    assert application.installed == []
    (question,) = application.questions
    assert "surely-not-installed>=1.0" in question
    assert "numpy" not in question
    application.yes = True
    with pytest.raises(FastSAM3DError, match="did not complete"):
        logic.ensure(again=True)
    assert len(application.questions) == 2


def test_in_the_panel_a_failed_installation_is_one_line_and_no_traceback(panel):
    application = Application()
    application.failures["torch"] = PIP
    logic = logicFor(application)
    panel.installer.ensure = logic.ensure
    panel.parameters().volume = panel.scan
    for button in (panel.ui.pointButton, panel.ui.testButton):
        button.click()
        assert "The installation failed" in panel.ui.statusLabel.text
        assert panel.controller.tools.tool == ""
    panel.ui.pointButton.click()
    assert "press Test in the Model section" in panel.ui.statusLabel.text
    assert len(application.questions) == 2


def test_what_is_installed_is_neither_numpy_nor_simpleitk_nor_torch():
    names = {line.split(">=")[0].lower() for line in requirementLines(REQUIREMENTS)}
    assert names == {"safetensors", "requests"}


def test_before_512_only_missing_packages_are_installed_without_dependencies(monkeypatch, tmp_path, harness):
    import slicer

    calls = []
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)  # 5.10 has none
    monkeypatch.setattr(slicer.util, "pip_install", calls.append, raising=False)
    path = tmp_path / "requirements.txt"
    path.write_text("safetensors>=0.4.5\nsurely-not-installed>=1.0  # a comment\n")
    SlicerHost().installRequirements(path)
    assert calls == [["--no-deps", "surely-not-installed>=1.0"]]


def test_from_512_on_slicers_own_packaging_does_it(monkeypatch, harness):
    import slicer

    calls = []
    packaging = types.ModuleType("slicer.packaging")
    packaging.load_requirements = lambda path: f"loaded {path}"
    packaging.pip_ensure = lambda requirements, **options: calls.append((requirements, options))
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setattr(slicer, "packaging", packaging, raising=False)
    SlicerHost().installRequirements(REQUIREMENTS)
    # The question was asked and answered before.
    assert calls == [(f"loaded {REQUIREMENTS}", {"requester": "FastSAM3D", "prompt_install": False})]


def test_versions_are_compared_by_number():
    assert isInstalled("numpy>=1.9")
    assert not isInstalled("numpy>=999")
    assert not isInstalled("surely-not-installed")
    assert numbers("2.10.0+cpu") > numbers("2.9")


def test_models_are_listed_with_size_and_licence_without_loading_torch():
    import subprocess

    code = (
        "import sys; sys.path[:0] = [{root!r}, {root!r} + '/FastSAM3DSlicer'];"
        "from FastSAM3DSlicerLib.InstallLogic import InstallLogic;"
        "models = InstallLogic.models(); print('torch' in sys.modules, sorted(models), models['fastsam3d'])"
    ).format(root=str(ROOT))
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("False")
    assert "'default'" in out
    assert "638 MB" in out
    assert "Apache-2.0" in out


def test_removing_downloads_frees_their_space_and_keeps_the_bundled_model(tmp_path, monkeypatch):
    from FastSAM3DCore.weights.cache import CacheRecord, WeightsCache

    monkeypatch.setenv("FASTSAM3D_CACHE", str(tmp_path))
    cache = WeightsCache(tmp_path)
    cache.path_of("fastsam3d").write_bytes(b"x" * 3_000_000)
    cache.record("fastsam3d", CacheRecord("a", "b", "file", "pinned", "fastsam3d", 3_000_000))
    assert InstallLogic.removeDownloads() == "1 model removed, 3 MB freed."
    assert not cache.path_of("fastsam3d").exists()
    assert InstallLogic.removeDownloads() == "0 models removed, 0 MB freed."


def test_the_device_is_proved_by_a_kernel_and_named():
    assert "cpu" in InstallLogic.proveDevice("cpu").lower()
    with pytest.raises(FastSAM3DError, match="Unknown device"):
        InstallLogic.proveDevice("abacus")
