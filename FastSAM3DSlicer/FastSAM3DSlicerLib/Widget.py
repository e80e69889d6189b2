"""The module's panel: wires the form to the `Controller`; decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from FastSAM3DCore.errors import FastSAM3DError

from .Controller import Controller
from .DeferredSession import DeferredSession
from .EditMask import POLICIES
from .EnginePanel import EnginePanel
from .InstallLogic import InstallLogic
from .PanelState import DEVICES, PanelState
from .ParameterNode import FastSAM3DParameterNode
from .Shortcuts import Shortcuts, deleteShortcut
from .ShortcutTable import ShortcutTable
from .ToolBox import TOOLS
from .VolumeBridge import shownVolume

PUMP_MS = 20
# Meshing takes 200 ms and more: wait until the user has stopped clicking.
SURFACE_IDLE_MS = 700
ICONS = Path(__file__).resolve().parents[1] / "Resources" / "Icons"
TOKEN_SETTING = "FastSAM3D/ServerKey"


class Panel:
    """Everything inside the module's panel.

    Args:
        widget: the loaded form.
        parameterNode: makes (or finds) the scene's parameter node.
        installer: gets the engine ready.
    """

    def __init__(
        self,
        widget: Any,
        parameterNode: Callable[[], FastSAM3DParameterNode],
        installer: InstallLogic,
    ):
        self.widget, self.ui = widget, slicer.util.childWidgetVariables(widget)
        self._makeParameterNode = parameterNode
        self._parameters: FastSAM3DParameterNode | None = None
        self._guiTag: Any = None
        self._observer: tuple[Any, int] | None = None
        self._updating = False
        self._entered = False
        self._target: tuple[Any, ...] = ()
        self.controller = Controller(
            slicer.mrmlScene, DeferredSession(), sliceViews, self.say, self.refresh, self._onCpu
        )
        self.engine = EnginePanel(self.controller, installer)
        self.state = PanelState(self.ui, self.controller)
        self.state.decorate(qt.QIcon, ICONS)
        settings = slicer.app.userSettings()
        self.shortcuts = Shortcuts(settings, self._makeShortcut, deleteShortcut)
        self.ui.tokenEdit.setText(str(settings.value(TOKEN_SETTING, "")))
        self._fillModels()
        self.keys = ShortcutTable(self.ui.shortcutsTable, self.shortcuts, tableItem, normalisedKey, self.say)
        self.ui.shortcutsTable.setHorizontalHeaderLabels([_("Action"), _("Key")])
        self._connect()
        self._timer = qt.QTimer()
        self._timer.setInterval(PUMP_MS)
        self._timer.timeout.connect(self._pump)
        self._surfaceTimer = qt.QTimer()
        self._surfaceTimer.setSingleShot(True)
        self._surfaceTimer.setInterval(SURFACE_IDLE_MS)
        self._surfaceTimer.timeout.connect(self.controller.logic.surfaces.refresh)
        self._layout = slicer.app.layoutManager()  # None without a main window
        if self._layout is not None:
            self._layout.layoutChanged.connect(self._onLayoutChanged)

    # -- life ----------------------------------------------------------------------------------------

    def enter(self) -> None:
        """The user opened the module."""
        self._entered = True
        self.controller.enter()
        self._attach()
        self.shortcuts.enable(self._actions())
        self._timer.start()
        self.refresh()
        self.guarded(self.engine.resume)

    def exit(self) -> None:
        """The user went to another module: keys and tools are Slicer's again."""
        self._entered = False
        self.shortcuts.disable()
        self.controller.leave()
        self._detach()

    def cleanup(self) -> None:
        """The application closes, or the module is reloaded."""
        self.exit()
        self._timer.stop()
        self._surfaceTimer.stop()
        if self._layout is not None:
            self._layout.layoutChanged.disconnect(self._onLayoutChanged)
            self._layout = None
        self.controller.close()

    def sceneClosing(self) -> None:
        """Before the scene's nodes go."""
        self.controller.runner.cancel()
        self.controller.leave()
        self.controller.overlay.hide()
        self.controller.logic.clear()
        self._detach()

    def sceneClosed(self) -> None:
        """The scene is empty; start again if the user is still here."""
        self._target = ()
        if self._entered:
            self.controller.enter()
            self._attach()
            self.refresh()

    def say(self, text: str) -> None:
        """One line to the user."""
        self.ui.statusLabel.setText(text)

    # -- the scene's parameter node ------------------------------------------------------------------

    def _attach(self) -> None:
        self._detach()
        self._parameters = self._makeParameterNode()
        if self._parameters.volume is None:
            self._parameters.volume = shownVolume(slicer.mrmlScene)
        node = self._parameters.parameterNode
        self._guiTag = self._parameters.connectGui(self.ui)
        self._observer = (node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._onParameters))
        self._onParameters()

    def _detach(self) -> None:
        if self._parameters is not None and self._guiTag is not None:
            self._parameters.disconnectGui(self._guiTag)
        if self._observer is not None:
            self._observer[0].RemoveObserver(self._observer[1])
        self._parameters, self._guiTag, self._observer = None, None, None

    def _onParameters(self, *_: Any) -> None:
        """The user, a script or a loaded scene changed a choice."""
        p = self._parameters
        if p is None or self._updating:
            return
        with self._quietly():
            self._applyEngine(p)
            self.controller.logic.rules.policy = p.policy if p.policy in POLICIES else POLICIES[0]
            self.ui.segmentsTable.setSegmentationNode(p.segmentation)
            if p.segmentation is not None and not p.segmentation.GetSegmentation().GetSegment(p.segmentId):
                ids = p.segmentation.GetSegmentation().GetSegmentIDs()
                p.segmentId = ids[0] if ids else ""
            self.ui.segmentsTable.setSelectedSegmentIDs([p.segmentId] if p.segmentId else [])
            target = (p.volume, p.segmentation, p.segmentId)
            if target != self._target:
                # Not taken (no voxels yet, locked away by a transform): looked at again at the next occasion.
                self._target = target if self.controller.select(*target) else ()
            if self.controller.overlayOn != p.showUncertainty:
                self.controller.setOverlay(p.showUncertainty)
            if (self.controller.review.on, self.controller.review.slabMm) != (p.sliceMode, p.slabMm):
                self.controller.setSliceMode(p.sliceMode, p.slabMm)
            active = self.controller.logic.active
            if active is not None and abs(p.threshold - active.log.threshold) > 1e-6 and active.log.prompts:
                self.controller.setThreshold(p.threshold)
        self.refresh()

    def _followVolume(self) -> None:
        """A node that was removed and one loaded since may share an ID: then no event told of the change."""
        if self._parameters is not None and self._parameters.volume is not self.controller.logic.volumeNode:
            self._target = ()
            self._onParameters()

    def _applyEngine(self, p: FastSAM3DParameterNode) -> None:
        if name := self.engine.choose(p.model, p.device, p.serverUrl, self.ui.tokenEdit.text):
            self.say(self.controller.logic.modelNote() or _("The next prompt uses {model}.").format(model=name))

    def _onCpu(self) -> DeferredSession | None:
        """The graphics card ran out of memory."""
        session = self.engine.onCpu()
        if session is not None and self._parameters is not None:
            with self._quietly():
                self._parameters.device = "cpu"
        return session

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """While we change choices or the form ourselves."""
        before, self._updating = self._updating, True
        try:
            yield
        finally:
            self._updating = before

    # -- wiring --------------------------------------------------------------------------------------

    def _connect(self) -> None:
        ui, c = self.ui, self.controller
        for tool in TOOLS:
            getattr(ui, f"{tool}Button").clicked.connect(lambda *_, tool=tool: self.guarded(lambda: self.useTool(tool)))
        ui.positiveButton.clicked.connect(lambda *_: c.tools.use(c.tools.tool, True))
        ui.negativeButton.clicked.connect(lambda *_: c.tools.use(c.tools.tool, False))
        for button, action in (
            (ui.undoButton, c.undo),
            (ui.redoButton, c.redo),
            (ui.resetButton, c.reset),
            (ui.cancelButton, self.cancel),
            (ui.nextSegmentButton, self.nextSegment),
            (ui.uncertainButton, c.goToUncertain),
            (ui.fillButton, c.fillSlice),
            (ui.acceptButton, c.acceptSlice),
            (ui.releaseButton, c.review.release),
            (ui.smoothingButton, lambda: self.openSegmentEditor("Smoothing")),
            (ui.islandsButton, lambda: self.openSegmentEditor("Islands")),
            (ui.testButton, self.testEngine),
            (ui.importButton, self.importWeights),
            (ui.removeButton, self.removeDownloads),
            (ui.restoreShortcutsButton, self.keys.restoreDefaults),
        ):
            button.clicked.connect(lambda *_, action=action: self.guarded(action))
        ui.lockButton.clicked.connect(lambda *_: c.setLocked(ui.lockButton.checked))
        ui.show3DButton.clicked.connect(lambda *_: c.setSurfaces(ui.show3DButton.checked))
        ui.segmentsTable.selectionChanged.connect(lambda *_: self._onSegmentSelected())
        ui.policyCombo.currentIndexChanged.connect(
            lambda *_: self._set("policy", POLICIES[ui.policyCombo.currentIndex])
        )
        ui.modelCombo.currentIndexChanged.connect(lambda *_: self._set("model", ui.modelCombo.currentText))
        ui.deviceCombo.currentIndexChanged.connect(lambda *_: self._set("device", DEVICES[ui.deviceCombo.currentIndex]))
        ui.referenceSegmentCombo.currentIndexChanged.connect(
            lambda *_: self._set("referenceId", ui.referenceSegmentCombo.currentData or "")
        )
        ui.tokenEdit.editingFinished.connect(self._onToken)

    def _actions(self) -> dict[str, Callable[[], None]]:
        tools = {tool: (lambda tool=tool: self.useTool(tool)) for tool in TOOLS}
        actions = {**self.controller.actions(), **tools, "next": self.nextSegment, "cancel": self.cancel}
        return {name: (lambda action=action: self.guarded(action)) for name, action in actions.items()}

    def guarded(self, action: Callable[[], Any]) -> None:
        """Run what a button or key asks for; what goes wrong on purpose is said."""
        try:
            action()
        except FastSAM3DError as error:
            self.say(str(error))

    # -- actions -------------------------------------------------------------------------------------

    def useTool(self, tool: str) -> None:
        """Pick a tool up; makes a segmentation and a segment if there is none, asks to install what is missing."""
        self._followVolume()
        if self.controller.logic.volumeNode is None:
            self.say(self.controller.target())
        elif tool != self.controller.tools.tool and not self.engine.ready():
            self.say(_("PyTorch is needed to segment on this computer; press Test in the Model section to install it."))
        else:
            if self.controller.logic.active is None:
                self.nextSegment()
            self.controller.useTool(tool)
        self.refresh()

    def nextSegment(self) -> None:
        """Add an empty segment, in a new segmentation if there is none."""
        self._followVolume()
        p = self._parameters
        if p is None or p.volume is None:
            self.say(self.controller.target())
            return
        with self._quietly():
            if p.segmentation is None:
                p.segmentation = self.controller.newSegmentation(p.volume)
            self.ui.segmentsTable.setSegmentationNode(p.segmentation)
            p.segmentId = self.controller.nextSegment(p.segmentation) or p.segmentId
            self._target = (p.volume, p.segmentation, p.segmentId)
            self.ui.segmentsTable.setSelectedSegmentIDs([p.segmentId])

    def cancel(self) -> None:
        """Stop the running prompt, or put the tool down."""
        if self.controller.runner.busy:
            self.controller.runner.cancel()
        else:
            self.controller.tools.use("")
        self.refresh()

    def openSegmentEditor(self, effect: str) -> None:
        """Hand the segment over to an effect of the Segment Editor; edits there are picked up by the next prompt."""
        if (active := self.controller.logic.active) is None:
            raise FastSAM3DError(_("Choose or add a segment first."))
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(active.node)
        editor.setSourceVolumeNode(active.volumeNode)
        editor.setCurrentSegmentID(active.segmentId)
        editor.setActiveEffectByName(effect)

    def testEngine(self) -> None:
        """Install what is missing, load the model or reach the server, say what was found."""

        def found(device: str) -> None:
            self.ui.deviceLabel.setText(device)
            self.say(_("Ready: {device}").format(device=device))

        self.engine.test(found)

    def importWeights(self) -> None:
        """Take a weights file into use."""
        path = qt.QFileDialog.getOpenFileName(
            self.widget, _("Import weights"), "", _("Weights (*.safetensors *.pth *.pt)")
        )

        def done(name: str) -> None:
            self._fillModels()
            self._set("model", name)

        self.engine.importWeights(path[0] if isinstance(path, tuple) else path, done)

    def removeDownloads(self) -> None:
        """Free the disk space of downloaded models, after asking."""
        if slicer.util.confirmOkCancelDisplay(_("Delete all downloaded models? The bundled model stays."), "FastSAM3D"):
            self._set("model", "default")
            self.say(self.engine.removeDownloads())
            self._fillModels()

    # -- showing the state ---------------------------------------------------------------------------

    def refresh(self) -> None:
        """Make the form show what is."""
        self.state.show()
        if self._parameters is not None:
            with self._quietly():
                self.state.showChoices(self._parameters, self.engine.models)
        if self.controller.logic.surfaces.stale:
            self._surfaceTimer.start()

    def _pump(self) -> None:
        busy = self.controller.tick()
        self.state.showBusy()
        if not busy and not self._entered:
            self._timer.stop()

    # -- small things --------------------------------------------------------------------------------

    def _set(self, name: str, value: Any) -> None:
        if self._parameters is not None and not self._updating:
            setattr(self._parameters, name, value)

    def _onLayoutChanged(self, *_: Any) -> None:
        if self._entered:
            self.controller.layoutChanged()

    def _onSegmentSelected(self) -> None:
        ids = self.ui.segmentsTable.selectedSegmentIDs()
        if ids and self._parameters is not None and not self._updating:
            self._parameters.segmentId = ids[0]

    def _onToken(self) -> None:
        slicer.app.userSettings().setValue(TOKEN_SETTING, self.ui.tokenEdit.text)
        self._onParameters()

    def _fillModels(self) -> None:
        with self._quietly():
            self.ui.modelCombo.clear()
            for name, (description, _licence) in self.engine.models.items():
                self.ui.modelCombo.addItem(name)
                self.ui.modelCombo.setItemData(self.ui.modelCombo.count - 1, description, qt.Qt.ToolTipRole)

    def _makeShortcut(self, key: str, function: Callable[[], None]) -> Any:
        shortcut = qt.QShortcut(qt.QKeySequence(key), slicer.util.mainWindow() or self.widget)
        shortcut.activated.connect(function)
        return shortcut


def normalisedKey(text: str) -> str:
    """The key sequence that a text means; empty if it means none."""
    return qt.QKeySequence(text).toString()


def tableItem(text: str, editable: bool) -> Any:
    """A cell of the shortcut table."""
    item = qt.QTableWidgetItem(text)
    if not editable:
        item.setFlags(qt.Qt.ItemIsEnabled)
    return item


def sliceViews() -> list[tuple[Any, Any]]:
    """Interactor and slice node of every slice view of the layout."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return []
    widgets = [manager.sliceWidget(name) for name in manager.sliceViewNames()]
    return [(widget.sliceView().interactor(), widget.mrmlSliceNode()) for widget in widgets]
