"""What Slicer discovers: the four classes it looks up, each delegating to FastSAM3DSlicerLib."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class FastSAM3DSlicer(ScriptedLoadableModule):
    """The module as Slicer lists it. Loads nothing heavy; works without a main window."""

    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = _("FastSAM3D")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "Markups", "Volumes"]
        self.parent.contributors = ["FastSAM3DSlicer contributors"]
        self.parent.helpText = _(
            "Click on a structure in a CT or MR and see it segmented in 3D; refine it with more clicks, boxes, "
            "scribbles and lassos. Works on this computer, without a graphics card and without internet."
        )
        self.parent.helpText += self.getDefaultModuleDocumentationLink()
        self.parent.acknowledgementText = _(
            "Based on FastSAM3D (Shen et al., MICCAI 2024) and SAM-Med3D (Wang et al., 2023)."
        )
        slicer.app.connect("startupCompleted()", self.afterStartup)

    def afterStartup(self):
        """Slicer is up: offer the sample scans, and the effect in the Segment Editor."""
        from FastSAM3DSlicerLib.Registration import registerEffect, registerSampleData

        registerSampleData(self.resourcePath("Icons"))
        registerEffect(Path(__file__).parent / "SegmentEditorFastSAM3DLib" / "SegmentEditorFastSAM3DEffect.py")


class FastSAM3DSlicerWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel's life: made once, entered and left, told when the scene closes."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.panel = None

    def setup(self):
        """Called when the module is opened the first time."""
        super().setup()
        from FastSAM3DSlicerLib.InstallLogic import InstallLogic
        from FastSAM3DSlicerLib.Widget import Panel

        form = slicer.util.loadUI(self.resourcePath("UI/FastSAM3DSlicer.ui"))
        form.setMRMLScene(slicer.mrmlScene)
        self.layout.addWidget(form)
        self.logic = FastSAM3DSlicerLogic()
        installer = InstallLogic(Path(self.resourcePath("requirements.txt")))
        self.panel = Panel(form, self.logic.getParameterNode, installer)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)

    def enter(self):
        """Called each time the user opens the module."""
        self.panel.enter()

    def exit(self):
        """Called each time the user goes to another module."""
        self.panel.exit()

    def cleanup(self):
        """Called when the application closes or the module is reloaded."""
        self.removeObservers()
        self.panel.cleanup()

    def onSceneStartClose(self, caller, event):
        """Called just before the scene is closed."""
        self.panel.sceneClosing()

    def onSceneEndClose(self, caller, event):
        """Called just after the scene is closed."""
        self.panel.sceneClosed()


class FastSAM3DSlicerLogic(ScriptedLoadableModuleLogic):
    """Usable with no widget: `FastSAM3DSlicerLogic().segmentation(session)` prompts in the application's scene."""

    def getParameterNode(self):
        """The panel's choices, saved with the scene."""
        from FastSAM3DSlicerLib.ParameterNode import FastSAM3DParameterNode

        return FastSAM3DParameterNode(super().getParameterNode())

    @staticmethod
    def segmentation(session):
        """The MRML logic on the application's scene; see `FastSAM3DSlicerLib.SegmentationLogic`."""
        from FastSAM3DSlicerLib import SegmentationLogic

        return SegmentationLogic(slicer.mrmlScene, session)


class FastSAM3DSlicerTest(ScriptedLoadableModuleTest):
    """Runs the in-app tests: Reload and Test, or CTest."""

    def runTest(self):
        """Called by Reload and Test."""
        from FastSAM3DSlicerLib.Registration import runInAppTests

        runInAppTests(Path(__file__))
