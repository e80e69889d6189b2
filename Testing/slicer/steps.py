"""What the panel's tests do again and again."""

from __future__ import annotations

from FastSAM3DSlicerLib.VolumeBridge import ijkToWorld, transformPoints


def at(panel, *ijk):
    return transformPoints(ijkToWorld(panel.scan), [ijk])[0]


def place(panel, *ijk, positive=True):
    panel.controller.sync.pointsNode(positive).AddControlPointWorld(*at(panel, *ijk))
    panel.settle()


def withSession(panel, session):
    """Another engine from now on."""
    panel.installer.open = lambda: session
    panel.parameters().device = "cuda"
    panel.settle()
