"""Memory of a session on a large scan, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import resource
import numpy as np
from FastSAM3DCore import Volume, VoxelBox, open_session

array = np.full((800, 512, 512), -1000, np.int16)
k, j, i = np.ogrid[:800, :512, :512]
for start in range(0, 800, 50):  # an elliptic trunk with a bright organ in it, made slab by slab
    slab = slice(start, start + 50)
    array[slab][np.broadcast_to(((j - 256) / 160) ** 2 + ((i - 256) / 220) ** 2 < 1, array[slab].shape)] = 20
    organ = ((k[slab] - 400) / 90) ** 2 + ((j - 240) / 70) ** 2 + ((i - 200) / 90) ** 2 < 1
    array[slab][organ] = 140
array += np.random.default_rng(0).integers(-15, 15, (1, 512, 512), dtype=np.int16)

session = open_session("default", "cpu")
session.set_image(Volume(array, np.diag([0.75, 0.75, 0.7, 1.0])))
session.add_point((200, 240, 400))
session.add_point((380, 256, 400), False)
session.add_box(VoxelBox((100, 160, 300), (300, 320, 500)))
session.undo()
session.redo()
session.set_mask(session.mask())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, int(session.mask().sum()))
"""


def test_a_512x512x800_ct_stays_below_three_gigabytes():
    result = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    gigabytes, voxels = (float(v) for v in result.stdout.split())
    assert voxels > 0
    assert gigabytes < 3.0
