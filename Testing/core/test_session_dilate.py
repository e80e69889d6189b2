"""Growing flags by voxels along the axes."""

import pytest
import torch
from scipy.ndimage import maximum_filter

from FastSAM3DCore.session.acceptance import dilate


@pytest.mark.parametrize("reach", [1, 3])
def test_a_flag_grows_to_a_cube_and_stops_at_the_faces(reach):
    flags = torch.rand(12, 9, 17, generator=torch.Generator().manual_seed(reach)) > 0.98
    before = flags.clone()
    grown = dilate(flags, reach)
    assert grown.dtype == torch.float32
    wanted = maximum_filter(flags.numpy(), 2 * reach + 1, mode="constant")
    assert torch.equal(grown, torch.from_numpy(wanted).float())
    assert torch.equal(flags, before)
