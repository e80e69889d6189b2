"""The panel with a real server on loopback: address, key, Test button, a server that goes away."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra [server] is not installed")

from FastSAM3DCore.serving import connection
from FastSAM3DSlicerLib.InstallLogic import InstallLogic
from FastSAM3DSlicerLib.PromptStore import storedModel
from Testing.core.fakes import FakeSession
from Testing.mrml.conftest import whole
from Testing.server.running import IDENTITY, running
from Testing.slicer.steps import place

KEY = "a-key-of-some-length"


@pytest.fixture
def server():
    made = []
    with running(lambda: made.append(FakeSession()) or made[-1], token=KEY) as running_server:
        running_server.sessions = made
        yield running_server


@pytest.fixture
def remote(ready, server, monkeypatch):
    """The panel with the server's address typed in, through the real opener."""
    monkeypatch.setattr(connection, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(ready.installer, "openSession", InstallLogic.openSession)
    ready.installer.answer = False  # no PyTorch on this computer
    ready.ui.tokenEdit.setText(KEY)
    ready.ui.tokenEdit.editingFinished.emit()
    ready.ui.serverEdit.setText(server.url)
    ready.settle()
    return ready


def test_prompts_are_answered_by_the_server_without_pytorch_on_this_computer(remote, server):
    asked = remote.installer.asked
    remote.ui.boxButton.click()
    assert remote.controller.tools.tool == "box"
    assert remote.installer.asked == asked
    place(remote, 20, 25, 15)
    assert np.array_equal(whole(remote.logic), server.sessions[0].mask())
    assert whole(remote.logic).any()
    assert storedModel(remote.logic.active.segment) == IDENTITY
    remote.ui.undoButton.click()
    remote.settle()
    assert not whole(remote.logic).any()
    assert not server.sessions[0].mask().any()


def test_the_test_button_names_the_servers_model(remote, server):
    remote.ui.testButton.click()
    remote.settle()
    assert remote.ui.deviceLabel.text == f"{IDENTITY} at {server.url}"


def test_a_wrong_key_is_said_and_the_right_one_helps(remote):
    remote.ui.tokenEdit.setText("another-key-altogether")
    remote.ui.tokenEdit.editingFinished.emit()
    place(remote, 20, 25, 15)
    assert "key" in remote.ui.statusLabel.text
    assert not whole(remote.logic).any()
    assert remote.controller.sync.pointsNode(True).GetNumberOfControlPoints() == 0
    remote.ui.tokenEdit.setText(KEY)
    remote.ui.tokenEdit.editingFinished.emit()
    place(remote, 20, 25, 15)
    assert whole(remote.logic).any()


def test_an_address_that_is_none_is_said(remote):
    remote.ui.serverEdit.setText("gpu-box")
    place(remote, 20, 25, 15)
    assert "looks like http://gpu-server:1527" in remote.ui.statusLabel.text
    assert not whole(remote.logic).any()


def test_undo_works_although_the_server_has_lost_the_session(remote, server):
    place(remote, 20, 25, 15)
    first = whole(remote.logic)
    place(remote, 40, 25, 15)
    server.leases.clear()
    remote.ui.undoButton.click()
    remote.settle()
    assert np.array_equal(whole(remote.logic), first)
    remote.ui.redoButton.click()
    remote.settle()
    place(remote, 20, 40, 15)
    assert len(remote.logic.prompts) == 3
    assert np.array_equal(whole(remote.logic), server.sessions[-1].mask())


def test_a_server_that_goes_away_is_said_and_nothing_is_lost(remote, server):
    place(remote, 20, 25, 15)
    before = whole(remote.logic)
    server.leases.clear()
    remote.controller.session.open()._connection.url = "http://127.0.0.1:9"
    place(remote, 40, 25, 15)
    assert "whether the server runs" in remote.ui.statusLabel.text
    assert np.array_equal(whole(remote.logic), before)
    assert len(remote.logic.prompts) == 1
    remote.ui.serverEdit.setText("")  # compute here instead
    remote.installer.answer = True
    remote.installer.openSession = lambda *_: FakeSession()
    remote.settle()
    place(remote, 40, 25, 15)
    assert whole(remote.logic)[before == 1].all()
    assert whole(remote.logic)[15, 25, 40]


def test_the_form_leaves_the_key_out_of_the_scene(remote):
    node = remote.parameters().parameterNode
    stored = [node.GetParameter(name) for name in node.GetParameterNames()]
    assert not any(KEY in value for value in stored)
