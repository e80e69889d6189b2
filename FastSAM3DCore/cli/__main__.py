"""`python -m FastSAM3DCore.cli`: the same as the `fastsam3d` command."""

from __future__ import annotations

import sys

from . import main

sys.exit(main())
