"""Makes the panel's form show what is; asks the form nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from FastSAM3DCore.errors import FastSAM3DError

from .Controller import Controller
from .EditMask import POLICIES, isLocked
from .Statistics import ReferenceDice
from .ToolBox import TOOLS

DEVICES = ("auto", "cpu", "cuda", "mps")
ICONS = {
    "positiveButton": "Add",
    "negativeButton": "Remove",
    **{f"{tool}Button": tool.capitalize() for tool in TOOLS},
}
NEEDS_SEGMENT = ("lockButton", "uncertainButton", "smoothingButton", "islandsButton", "show3DButton")
NEEDS_SLICE_MODE = ("fillButton", "acceptButton", "releaseButton")


class PanelState:
    """Shows the controller's state and the parameter node's choices.

    Args:
        ui: the form's widgets by name.
        controller: what is shown.
    """

    def __init__(self, ui: Any, controller: Controller):
        self.ui, self.controller = ui, controller
        self._dice = ReferenceDice(controller.runner, lambda: controller.onChanged())

    def decorate(self, makeIcon: Callable[[str], Any], folder: Path) -> None:
        """Give the tool buttons their pictures."""
        for name, picture in ICONS.items():
            getattr(self.ui, name).setIcon(makeIcon(str(folder / f"{picture}.png")))

    def show(self) -> None:
        """Buttons, toggles and numbers."""
        ui, c = self.ui, self.controller
        active = c.logic.active if c.logic.active is not None and c.logic.active.exists(c.scene) else None
        for tool in TOOLS:
            getattr(ui, f"{tool}Button").setChecked(c.tools.tool == tool)
        ui.positiveButton.setChecked(c.tools.positive)
        ui.negativeButton.setChecked(not c.tools.positive)
        ui.undoButton.setEnabled(bool(c.logic.history.undoSteps))
        ui.redoButton.setEnabled(bool(c.logic.history.redoSteps))
        ui.resetButton.setEnabled(bool(c.logic.prompts))
        for name in NEEDS_SEGMENT:
            getattr(ui, name).setEnabled(active is not None)
        for name in NEEDS_SLICE_MODE:
            getattr(ui, name).setEnabled(active is not None and c.review.on)
        ui.lockButton.setChecked(active is not None and isLocked(active.segment))
        ui.volumeLabel.setText(number(lambda: f"{active.milliliters():.2f} ml") if active is not None else "-")

    def showChoices(self, p: Any, models: dict[str, tuple[str, str]]) -> None:
        """Combo boxes, licence and Dice; the caller holds back the form's signals."""
        ui, active = self.ui, self.controller.logic.active
        ui.policyCombo.setCurrentIndex(POLICIES.index(p.policy) if p.policy in POLICIES else 0)
        ui.deviceCombo.setCurrentIndex(DEVICES.index(p.device) if p.device in DEVICES else 0)
        ui.modelCombo.setCurrentIndex(max(0, ui.modelCombo.findText(p.model)))
        ui.licenceLabel.setText(models.get(p.model, ("", ""))[1])
        if active is not None and abs(p.threshold - active.log.threshold) > 1e-6 and not self.controller.runner.busy:
            p.threshold = active.log.threshold
        self._showReference(p)

    def showBusy(self) -> None:
        """Progress and Cancel, on anything over a second."""
        text = self.controller.runner.busyText
        self.ui.progressBar.setVisible(bool(text))
        self.ui.cancelButton.setVisible(bool(text))
        if text:
            self.ui.progressBar.setFormat(text)

    def _showReference(self, p: Any) -> None:
        active, combo = self.controller.logic.active, self.ui.referenceSegmentCombo
        segmentation = p.reference.GetSegmentation() if p.reference is not None else None
        ids = list(segmentation.GetSegmentIDs()) if segmentation is not None else []
        if active is not None and p.reference is active.node:
            ids = [segmentId for segmentId in ids if segmentId != active.segmentId]  # itself would always be 1
        if [combo.itemData(n) for n in range(combo.count)] != ids:
            combo.clear()
            for segmentId in ids:
                combo.addItem(segmentation.GetSegment(segmentId).GetName(), segmentId)
        chosen = p.referenceId if p.referenceId in ids else (ids[0] if ids else "")
        combo.setCurrentIndex(ids.index(chosen) if chosen else -1)
        known = chosen and active is not None and active.exists(self.controller.scene)
        dice = number(lambda: fraction(self._dice.value(active, p.reference, chosen))) if known else "-"
        self.ui.diceLabel.setText(dice)


def number(measure: Callable[[], str]) -> str:
    """A measurement as text; a dash where the scene does not allow one (a transform that bends space)."""
    try:
        return measure()
    except FastSAM3DError:
        return "-"


def fraction(value: float | None) -> str:
    """Three decimals; an ellipsis while it is computed (None), a dash if nobody will (NaN)."""
    if value is None:
        return "…"
    return "-" if math.isnan(value) else f"{value:.3f}"
