"""Settings for the whole suite."""

from __future__ import annotations

import os

# The networks of the suite are tiny: on a busy machine a second thread waits for the first one more than it
# computes (weights tests: 82 s with two threads, 13 s with one). Read by torch when it is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
