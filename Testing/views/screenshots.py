"""Pictures of the real rendered views before and after each tool, for README and tutorial.

    python -m Testing.views.screenshots OUTDIR [--scan FILE --target R,A,S] [--model NAME]
    python -m Testing.views.screenshots --resources

Without --scan: the MNI152 head template that nilearn carries (free to redistribute). Everything is drawn with the
mouse, as a user would: press, drag, release in a slice view. --resources renews the pictures of Resources/Screenshots.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from FastSAM3DSlicerLib import OVERLAP, SegmentationLogic
from FastSAM3DSlicerLib.PromptSync import PromptSync
from FastSAM3DSlicerLib.StrokeDrawer import StrokeDrawer
from FastSAM3DSlicerLib.Uncertainty import UncertaintyOverlay
from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, pointsToIjk, transformPoints
from Testing.mrml.conftest import setWhole, whole
from Testing.views.rendering import ORIENTATIONS, RenderedViews, reddish

SIZE = (640, 640)
RESOURCES = Path(__file__).resolve().parents[2] / "Resources" / "Screenshots"
# What README and tutorial show.
SHOWN = (
    *("point_before", "point_after", "negative_point_before", "negative_point_after", "box_after"),
    *("scribble_after", "lasso_after", "uncertainty", "surface"),
)
# The views show this part of the scan's width and height around the target.
ZOOM = 0.55
# In the MNI152 template, RAS mm: inside a lateral ventricle's body, and beside it in white matter.
TARGET, BESIDE = (-12.0, -22.0, 24.0), (-28.0, -18.0, 24.0)
# Drawn in the axial slice through the target, mm right and front of it: around and along that ventricle.
BOX = ((-11.5, -16.0), (0.0, 0.0), (6.5, 31.0))
SCRIBBLE = ((-7.5, -11.0), (-4.5, -5.0), (-1.0, 1.0), (1.0, 7.0), (1.5, 13.0), (1.0, 19.0), (-0.5, 25.0))
LASSO = (
    *((-11.0, -14.0), (-12.0, -11.0), (-11.0, -8.0), (-10.0, -5.0), (-9.0, -2.0), (-7.0, 1.0), (-5.5, 5.0)),
    *((-4.5, 10.0), (-4.0, 19.0), (-5.0, 25.0), (-4.5, 30.0), (1.0, 30.0), (3.0, 25.0), (6.0, 19.0)),
    *((7.0, 13.0), (7.0, 7.0), (5.0, 1.0), (3.0, -2.0), (1.0, -5.0), (-2.0, -9.0), (-5.5, -14.0)),
)
PAINTED_MM = 5.0


def template() -> tuple[np.ndarray, np.ndarray]:
    """The MNI152 T1 template at 1 mm: voxels [k, j, i] and ijk to RAS."""
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=1)
    voxels = np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0)
    return (voxels / voxels.max() * 1000).astype(np.int16), np.asarray(image.affine)


def scanFile(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Any scan SimpleITK reads: voxels [k, j, i] and ijk to RAS."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    direction = np.array(image.GetDirection()).reshape(3, 3)
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = direction * image.GetSpacing(), image.GetOrigin()
    return sitk.GetArrayFromImage(image), np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps


class Photographer:
    """Draws with each tool and takes the pictures."""

    def __init__(self, outdir: Path, voxels: np.ndarray, ijkToRas: np.ndarray, session: Any) -> None:
        self.outdir = outdir
        outdir.mkdir(parents=True, exist_ok=True)
        self.views = RenderedViews(SIZE, threeD=True)
        low, high = np.percentile(voxels[::3, ::3, ::3], [2, 99.5])
        self.volume = self.views.addVolume(voxels, ijkToRas, (float(low), 1.1 * float(high)))
        self.logic = SegmentationLogic(self.views.scene, session)
        self.logic.setVolume(self.volume)
        self.logic.rules.policy = OVERLAP  # one segment per tool, on the same structure
        self.node = self.views.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
        self.node.CreateDefaultDisplayNodes()
        self.node.GetDisplayNode().SetOpacity2DFill(0.35)  # the views' default of 0.5 hides the markers
        self.sync = PromptSync(self.logic)
        self.report: list[dict[str, Any]] = []

    def close(self) -> None:
        self.sync.close()
        self.views.close()

    def photograph(self, tool: str, target: Any, beside: Any) -> None:
        """One tool on an empty segment: before, after, and what changed."""
        self.logic.addSegment(self.node, tool)
        self.node.GetDisplayNode().SetAllSegmentsVisibility(False)
        self.node.GetDisplayNode().SetSegmentVisibility(self.logic.active.segmentId, True)
        self.logic.active.segment.SetColor(1.0, 0.0, 0.0)
        self.sync.mirror()
        self.views.look(target, ZOOM)
        if tool in ("negative point", "undo"):
            self._click(target, True)
        if tool == "negative point":
            self._paint(beside)
        before = self._picture(tool, "before")
        start = time.perf_counter()
        self._draw(tool, target, beside)
        seconds = time.perf_counter() - start
        after = self._picture(tool, "after")
        self.report.append(
            {
                "tool": tool,
                "seconds": seconds,
                "red_before": before,
                "red_after": after,
                "ml": self.logic.active.milliliters(),
            }
        )

    def photographSurface(self) -> None:
        """The segment of the first tool in 3D."""
        self.node.GetDisplayNode().SetAllSegmentsVisibility(False)
        first = self.node.GetSegmentation().GetNthSegmentID(0)
        self.node.GetDisplayNode().SetSegmentVisibility(first, True)
        self.node.CreateClosedSurfaceRepresentation()
        bounds = [0.0] * 6
        self.node.GetSegmentation().GetSegment(first).GetBounds(bounds)
        node = self.views.views["ThreeD"].get_view_node()
        node.SetBoxVisible(False)
        node.SetAxisLabelsVisible(False)
        camera = self.views.views["ThreeD"].render_window().GetRenderers().GetFirstRenderer()
        camera.ResetCamera(bounds)
        camera.GetActiveCamera().Azimuth(30)
        camera.ResetCameraClippingRange()
        self.views.grab("ThreeD", self.outdir / "surface.png")

    def photographUncertainty(self, target: Any) -> None:
        """Where the engine is undecided about the first tool's segment."""
        overlay = UncertaintyOverlay(self.views.scene)
        self.logic.setSegment(self.node, self.node.GetSegmentation().GetNthSegmentID(0))
        self.logic.prepareProbe().run()
        self.node.GetDisplayNode().SetAllSegmentsVisibility(False)
        self.sync.mirror()
        self.views.look(target, ZOOM)
        overlay.show(self.volume, self.logic.probability)
        self.views.grab("Red", self.outdir / "uncertainty.png")
        overlay.hide()

    def _paint(self, ras: Any) -> None:
        """A ball that somebody painted by hand where the structure is not."""
        mask = whole(self.logic)
        k, j, i = np.indices(mask.shape)
        world = transformPoints(ijkToWorld(self.volume), np.stack([i, j, k], axis=-1).reshape(-1, 3))
        mask.reshape(-1)[((world - ras) ** 2).sum(axis=1) < PAINTED_MM**2] = 1
        setWhole(self.logic, self.logic.active.segmentId, mask)

    def _picture(self, tool: str, when: str) -> int:
        name = tool.replace(" ", "_")
        self.views.stopPlacing()
        for tag in ("Green", "Yellow"):
            self.views.grab(tag, self.outdir / f"{name}_{when}_{ORIENTATIONS[tag].lower()}.png")
        return reddish(self.views.grab("Red", self.outdir / f"{name}_{when}.png"))

    def _draw(self, tool: str, target: Any, beside: Any) -> None:
        if tool == "point":
            self._click(target, True)
        elif tool == "negative point":
            self._click(beside, False)
        elif tool == "undo":
            self.logic.undo()
            self.sync.mirror()
        else:
            new = {
                "scribble": lambda: self.sync.newScribble(True),
                "lasso": lambda: self.sync.newLasso(True),
                "box": self.sync.newBox,
            }[tool]
            drawer = StrokeDrawer(new, self.sync.commit, self.sync.cancel)
            drawer.attach(self.views.interactor("Red"), self.views.sliceNode("Red"))
            offsets = {"scribble": SCRIBBLE, "lasso": (*LASSO, LASSO[0]), "box": BOX}[tool]
            self.views.drag("Red", [self.views.pixel("Red", target + np.array([*offset, 0.0])) for offset in offsets])
            drawer.detach()

    def _click(self, ras: Any, positive: bool) -> None:
        self.views.place(self.sync.pointsNode(positive))
        self.views.click("Red", *self.views.pixel("Red", ras))
        self.views.stopPlacing()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("outdir", type=Path, nargs="?")
    parser.add_argument("--resources", action="store_true", help="renew the pictures of Resources/Screenshots")
    parser.add_argument("--scan", type=Path)
    parser.add_argument("--target", help="R,A,S in mm to click at; the middle of the scan by default")
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    if options.outdir is None and not options.resources:
        parser.error("name a folder, or give --resources")
    outdir = options.outdir or Path(tempfile.mkdtemp())

    from FastSAM3DCore import open_session

    voxels, ijkToRas = scanFile(options.scan) if options.scan else template()
    photographer = Photographer(outdir, voxels, ijkToRas, open_session(options.model))
    target = np.array(TARGET)
    if options.scan:
        middle = transformPoints(ijkToWorld(photographer.volume), [np.array(voxels.shape[::-1]) / 2])[0]
        target = np.array([float(v) for v in options.target.split(",")]) if options.target else middle
    beside = target + (np.array(BESIDE) - TARGET)
    pointsToIjk(photographer.volume, target)
    for tool in ("point", "negative point", "box", "scribble", "lasso", "undo"):
        photographer.photograph(tool, target, beside)
    photographer.photographUncertainty(target)
    photographer.photographSurface()
    photographer.close()
    if options.resources:
        for name in SHOWN:
            shutil.copyfile(outdir / f"{name}.png", RESOURCES / f"{name}.png")
    (outdir / "report.json").write_text(json.dumps(photographer.report, indent=1))
    for row in photographer.report:
        red = f"red {row['red_before']:6d} -> {row['red_after']:6d}"
        print(f"{row['tool']:15s} {row['seconds']:6.2f} s  {red}  {row['ml']:7.2f} ml")


if __name__ == "__main__":
    main()
