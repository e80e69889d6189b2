"""The sample scan: a real head, without the network."""

from __future__ import annotations

import numpy as np

from FastSAM3DCore.errors import ImageError
from FastSAM3DCore.types import Volume

__all__ = ["SAMPLE_NAME", "load_sample"]

SAMPLE_NAME = "Sample head (MNI152)"


def load_sample() -> Volume:
    """The MNI152 template, an average of 152 T1 scans at 1 mm, as it comes with nilearn.

    Raises:
        ImageError: nilearn is not installed.
    """
    try:
        from nilearn.datasets import load_mni152_template
    except ImportError as error:
        raise ImageError("The sample scan needs nilearn (pip install nilearn); or open a scan of your own.") from error
    image = load_mni152_template(resolution=1)
    values = np.asanyarray(image.dataobj, dtype=np.float32)
    scaled = np.rint(values / values.max() * 1000).astype(np.int16)
    return Volume(np.ascontiguousarray(scaled.transpose(2, 1, 0)), np.asarray(image.affine, dtype=float))
