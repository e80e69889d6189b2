"""The panel's Model section: loading, installing, device, server, weights."""

from __future__ import annotations

from FastSAM3DCore.errors import DeviceError, FastSAM3DError
from FastSAM3DCore.types import ModelIdentity
from FastSAM3DSlicerLib.PromptStore import storedModel
from Testing.core.fakes import FakeSession
from Testing.mrml.conftest import whole
from Testing.slicer.steps import place, withSession


def test_the_engine_is_loaded_when_a_tool_is_picked_up_and_not_before(panel):
    panel.parameters().volume = panel.scan
    panel.settle()
    assert panel.installer.opened == []
    assert panel.installer.asked == 0
    panel.ui.pointButton.click()
    panel.settle()
    assert panel.installer.opened == [("default", "auto", "", "")]
    assert panel.installer.sessions[0].images_set == 1
    place(panel, 20, 25, 15)
    assert len(panel.installer.opened) == 1
    assert panel.installer.sessions[0].images_set == 1


def test_an_installation_that_restarted_slicer_goes_on_when_the_module_is_opened(panel):
    panel.widget.exit()
    panel.installer.resuming = True
    panel.widget.enter()
    assert panel.installer.asked == 1


def test_a_full_graphics_card_goes_on_on_the_cpu_and_the_choice_shows_it(ready):
    failing = FakeSession()

    def full(*_):
        raise DeviceError("cuda:0 ran out of memory; choose the CPU or close other programs.")

    failing.add_point = full
    sessions = [failing, FakeSession()]
    withSession(ready, failing)
    ready.installer.open = lambda: sessions.pop(0)
    place(ready, 20, 25, 15)
    assert ready.installer.opened[-1] == ("default", "cpu", "", "")
    assert ready.parameters().device == "cpu"
    assert ready.ui.deviceCombo.currentIndex == 1
    assert whole(ready.logic).sum() > 0


def test_another_model_device_or_server_is_used_from_the_next_prompt_on(ready):
    place(ready, 20, 25, 15)
    before = whole(ready.logic)
    ready.ui.modelCombo.setCurrentIndex(1)
    assert ready.parameters().model == "fastsam3d"
    assert "Apache" in ready.ui.licenceLabel.text
    place(ready, 26, 25, 15)
    assert ready.installer.sessions[0].closed
    assert ready.installer.opened[-1] == ("fastsam3d", "auto", "", "")
    assert len(ready.logic.prompts) == 2
    assert whole(ready.logic)[before == 1].all()
    ready.ui.serverEdit.setText("http://gpu:1527")
    ready.ui.tokenEdit.setText("secret")
    ready.ui.tokenEdit.editingFinished.emit()
    place(ready, 32, 25, 15)
    assert ready.installer.opened[-1] == ("fastsam3d", "auto", "http://gpu:1527", "secret")
    node = ready.parameters().parameterNode
    stored = [node.GetParameter(name) for name in node.GetParameterNames()]
    assert not any("secret" in value for value in stored)


def test_saying_no_to_the_installation_leaves_everything_as_it_is(panel):
    panel.parameters().volume = panel.scan
    panel.installer.answer = False
    panel.ui.pointButton.click()
    assert panel.controller.tools.tool == ""
    assert not panel.ui.pointButton.checked
    assert "PyTorch is needed" in panel.ui.statusLabel.text
    panel.installer.answer = True
    panel.ui.pointButton.click()
    assert panel.controller.tools.tool == "point"


def test_a_failing_installation_is_said(panel):
    panel.parameters().volume = panel.scan

    def fail(again=False):
        raise FastSAM3DError("The installation did not complete; see the Python console, then try again.")

    panel.installer.ensure = fail
    panel.ui.pointButton.click()
    assert "did not complete" in panel.ui.statusLabel.text


def test_the_test_button_proves_the_device(ready):
    ready.ui.testButton.click()
    ready.settle()
    assert ready.ui.deviceLabel.text == "fake (fafafafa) on auto: proved"
    assert ready.ui.statusLabel.text == "Ready: fake (fafafafa) on auto: proved"


def test_a_weights_file_can_be_taken_into_use(ready, monkeypatch):
    import qt

    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *_: ("/somewhere/FastSAM3D.pth", "")))
    ready.ui.importButton.click()
    ready.settle()
    assert ready.parameters().model == "fastsam3d"
    assert ready.ui.modelCombo.currentText == "fastsam3d"
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *_: ("", "")))
    ready.ui.importButton.click()
    ready.settle()
    assert ready.parameters().model == "fastsam3d"


def test_removing_downloads_asks_first_and_goes_back_to_the_bundled_model(ready, monkeypatch):
    import slicer

    answers = [False, True]
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_: answers.pop(0))
    ready.parameters().model = "fastsam3d"
    ready.ui.removeButton.click()
    assert ready.parameters().model == "fastsam3d"
    ready.ui.removeButton.click()
    assert ready.parameters().model == "default"
    assert "600 MB freed" in ready.ui.statusLabel.text


def test_weights_other_than_those_that_made_the_segment_are_named_before_and_after_the_next_prompt(ready):
    place(ready, 20, 25, 15)
    before = whole(ready.logic)

    def published():
        session = FakeSession(radius=3.5)
        session.model = ModelIdentity("fastsam3d", "0b" * 32)
        return session

    ready.installer.open = published
    ready.ui.modelCombo.setCurrentIndex(1)
    assert "Segment_1 was made with fake (fafafafa); the next prompt uses fastsam3d" in ready.ui.statusLabel.text
    place(ready, 30, 25, 15)
    assert "Made with fake (fafafafa), refined with fastsam3d (0b0b0b0b)." in ready.ui.statusLabel.text
    assert whole(ready.logic)[before == 1].all()
    assert storedModel(ready.logic.active.segment) == ModelIdentity("fastsam3d", "0b" * 32)
