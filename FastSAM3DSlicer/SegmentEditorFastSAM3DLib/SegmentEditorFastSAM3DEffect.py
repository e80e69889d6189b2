"""FastSAM3D as an effect of the Segment Editor: the same logic, with the editor's masks, overwrite mode and undo.

Slicer finds the class by the file's name. Undo and redo are the editor's own; a state it restores is noticed as an
edit, and the next prompt goes on from it.
"""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _

from FastSAM3DCore.errors import FastSAM3DError
from FastSAM3DSlicerLib.Controller import Controller
from FastSAM3DSlicerLib.DeferredSession import DeferredSession
from FastSAM3DSlicerLib.EditMask import EDITOR
from FastSAM3DSlicerLib.EngineChoice import EngineChoice
from FastSAM3DSlicerLib.InstallLogic import InstallLogic
from FastSAM3DSlicerLib.ToolBox import TOOLS
from FastSAM3DSlicerLib.Widget import PUMP_MS, TOKEN_SETTING, sliceViews

HERE = Path(__file__).resolve().parent


class SegmentEditorFastSAM3DEffect(AbstractScriptedSegmentEditorEffect):
    """Click, box, scribble or lasso; the selected segment is computed."""

    def __init__(self, scriptedEffect):
        scriptedEffect.name = "FastSAM3D"
        scriptedEffect.title = _("FastSAM3D")
        scriptedEffect.perSegment = True
        scriptedEffect.requireSegments = True
        super().__init__(scriptedEffect)
        self.installer = InstallLogic(HERE.parent / "Resources" / "requirements.txt")
        self.controller = None
        self.engine = None
        self.buttons = {}

    def clone(self):
        """Called when another Segment Editor wants the effect."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        copy = effects.qSlicerSegmentEditorScriptedEffect(None)
        copy.setPythonSource(Path(__file__).as_posix())
        return copy

    def icon(self):
        """Shown on the effect's button."""
        return qt.QIcon(str(HERE.parent / "Resources" / "Icons" / "FastSAM3DSlicer.png"))

    def helpText(self):
        """Shown above the options."""
        return _(
            "<html>Segment the structure you click on.<br><b>Add</b>: this belongs to the segment. "
            "<b>Remove</b>: this does not. Box, scribble and lasso are drawn with the mouse held down. "
            "Masks, overwrite mode and undo are the Segment Editor's.</html>"
        )

    def setupOptionsFrame(self):
        """Called once: the effect's options."""
        row = qt.QWidget()
        layout = qt.QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        titles = {"point": _("Point"), "box": _("Box"), "scribble": _("Scribble"), "lasso": _("Lasso")}
        for tool in TOOLS:
            self.buttons[tool] = button = self._button(titles[tool], layout)
            button.clicked.connect(lambda *_, tool=tool: self.guarded(lambda: self.useTool(tool)))
        self.removeButton = self._button(_("Remove"), layout)
        self.removeButton.clicked.connect(lambda *_: self.setPositive(not self.removeButton.checked))
        self.cancelButton = qt.QPushButton(_("Cancel"))
        self.cancelButton.setVisible(False)
        self.cancelButton.clicked.connect(lambda *_: self.cancel())
        self.statusLabel = qt.QLabel()
        self.statusLabel.setWordWrap(True)
        for widget in (row, self.statusLabel, self.cancelButton):
            self.scriptedEffect.addOptionsWidget(widget)
        self.timer = qt.QTimer()
        self.timer.setInterval(PUMP_MS)
        self.timer.timeout.connect(self.pump)

    def createCursor(self, widget):
        """The mouse pointer over slice views."""
        return slicer.util.mainWindow().cursor

    def activate(self):
        """The user picked the effect."""
        if self.controller is None:
            self.controller = Controller(
                slicer.mrmlScene, DeferredSession(), sliceViews, self.say, self.refresh, self.onCpu
            )
            self.controller.logic.rules.policy = EDITOR
            self.controller.logic.beforeWrite = self.scriptedEffect.saveStateForUndo
            self.engine = EngineChoice(self.controller, self.installer)
        self.controller.enter()
        self.timer.start()
        self.retarget()
        self.chooseEngine()

    def deactivate(self):
        """The user picked another effect, or left the editor."""
        if self.controller is not None:
            self.controller.leave()
        self.refresh()

    def cleanup(self):
        """The editor goes away."""
        self.timer.stop()
        if self.controller is not None:
            self.controller.close()
            self.controller = self.engine = None

    def updateGUIFromMRML(self):
        """Volume, segmentation or segment was changed in the editor."""
        if self.controller is not None and self.controller.inside:
            self.retarget()

    def sourceVolumeNodeChanged(self):
        """Another scan was chosen in the editor."""
        self.updateGUIFromMRML()

    def layoutChanged(self):
        """Slice views came or went."""
        if self.controller is not None:
            self.controller.layoutChanged()

    def interactionNodeModified(self, interactionNode):
        """Slicer's mouse mode was changed."""
        # By default the editor then deselects the effect; ours places points, and puts its tool down by itself.

    # -- inside --------------------------------------------------------------------------------------

    @staticmethod
    def parameters():
        """The choices made in the FastSAM3D module."""
        from FastSAM3DSlicer import FastSAM3DSlicerLogic

        return FastSAM3DSlicerLogic().getParameterNode()

    def chooseEngine(self):
        """Go on with the model, device and server chosen in the module; read here, never on the worker."""
        p = self.parameters()
        token = str(slicer.app.userSettings().value(TOKEN_SETTING, ""))
        if name := self.engine.choose(p.model, p.device, p.serverUrl, token):
            self.say(self.controller.logic.modelNote() or _("The next prompt uses {model}.").format(model=name))

    def onCpu(self):
        """The graphics card ran out of memory."""
        session = self.engine.onCpu()
        if session is not None:
            self.parameters().device = "cpu"
        return session

    def retarget(self):
        """Work on what is chosen in the editor."""
        node = self.scriptedEffect.parameterSetNode()
        self.controller.editorNode = node
        target = (node.GetSourceVolumeNode(), node.GetSegmentationNode(), node.GetSelectedSegmentID() or "")
        active = self.controller.logic.active
        known = (active.volumeNode, active.node, active.segmentId) if active is not None else None
        if target != known:
            self.controller.select(*target)

    def useTool(self, tool):
        """Pick a tool up, or put it down; asks to install what is missing."""
        self.chooseEngine()
        if tool != self.controller.tools.tool and not self.engine.ready():
            self.say(_("PyTorch is needed to segment on this computer; install it in the FastSAM3D module."))
        else:
            self.controller.useTool(tool)
        self.refresh()

    def setPositive(self, positive):
        """Add or remove, with the same tool."""
        self.controller.tools.use(self.controller.tools.tool, positive)

    def cancel(self):
        """Stop the running prompt."""
        self.controller.runner.cancel()

    def guarded(self, action):
        """Run what a button asks for; what goes wrong on purpose is said."""
        try:
            action()
        except FastSAM3DError as error:
            self.say(str(error))

    def say(self, text):
        """One line to the user."""
        self.statusLabel.setText(text)

    def refresh(self):
        """Make the buttons show what is."""
        tools = self.controller.tools if self.controller is not None and self.controller.inside else None
        for tool, button in self.buttons.items():
            button.setChecked(tools is not None and tools.tool == tool)
        self.removeButton.setChecked(tools is not None and not tools.positive)

    def pump(self):
        """Apply answers; called by the timer."""
        if self.controller is None:
            return
        busy = self.controller.tick()
        text = self.controller.runner.busyText
        self.cancelButton.setVisible(bool(text))
        if text:
            self.say(text)
        if not busy and not self.controller.inside:
            self.timer.stop()

    def _button(self, text, layout):
        button = qt.QToolButton()
        button.setText(text)
        button.setCheckable(True)
        layout.addWidget(button)
        return button
