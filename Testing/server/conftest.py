"""The server's packages are an extra; without them there is nothing to test here."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="the extra [server] is not installed")
pytest.importorskip("uvicorn", reason="the extra [server] is not installed")
