"""The pictures for README and tutorial show what they claim."""

from __future__ import annotations

import pytest

from Testing.core.fakes import FakeSession
from Testing.views.conftest import TURNED, phantom


def test_before_and_after_pictures_of_every_tool_are_written(tmp_path):
    import numpy as np

    from Testing.views.screenshots import SHOWN, Photographer

    photographer = Photographer(tmp_path, phantom(), TURNED, FakeSession(radius=9.5))
    target = (TURNED @ [40, 45, 30, 1])[:3]
    tools = ("point", "negative point", "box", "scribble", "lasso", "undo")
    for tool in tools:
        photographer.photograph(tool, target, target + np.array([-8.0, 0, 0]))
    photographer.photographUncertainty(target)
    photographer.photographSurface()
    photographer.close()
    for row in photographer.report:
        shrinks = row["tool"] in ("negative point", "undo")
        assert (row["red_after"] < row["red_before"]) if shrinks else (row["red_before"] == 0 < row["red_after"])
    written = {path.name for path in tmp_path.glob("*.png")}
    assert {f"{tool.replace(' ', '_')}_{when}.png" for tool in tools for when in ("before", "after")} <= written
    assert {f"{name}.png" for name in SHOWN} <= written
    assert (tmp_path / "surface.png").stat().st_size > 1000


def test_the_template_is_the_head_it_claims_to_be():
    pytest.importorskip("nilearn", reason="nilearn carries the MNI152 template")
    import numpy as np

    from Testing.views.screenshots import TARGET, template

    voxels, ijkToRas = template()
    i, j, k = np.rint(np.linalg.inv(ijkToRas) @ [*TARGET, 1])[:3].astype(int)
    white = np.percentile(voxels, 95)
    assert voxels[k, j, i] < 0.6 * white  # fluid is dark in T1
