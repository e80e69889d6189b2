"""The prompt log: what cannot be read in it is a PromptError, whatever its numbers are."""

from __future__ import annotations

import pytest

from FastSAM3DCore.errors import PromptError
from FastSAM3DCore.prompts import LOG_FORMAT, prompts_from_json

HUGE = "1" + "0" * 400
DAMAGED = {
    "endless box": '{"kind": "box", "id": 1, "lower": [1, 1, 1], "upper": [1e999, 9, 9]}',
    "endless id": '{"kind": "point", "id": 1e999, "ijk": [1, 1, 1]}',
    "endless point": '{"kind": "point", "id": 1, "ijk": [1e999, 1, 1]}',
    "huge point": f'{{"kind": "point", "id": 1, "ijk": [{HUGE}, 1, 1]}}',
    "huge scribble": f'{{"kind": "scribble", "id": 1, "ijk": [[1, 1, 1], [1, {HUGE}, 1]]}}',
    "point of too many digits": f'{{"kind": "point", "id": 1, "ijk": [{HUGE * 20}, 1, 1]}}',
    "endless lists": "[" * 100_000,
    "endless mask": '{"kind": "mask", "id": 1, "shape_kji": [1e999, 1, 2], "runs": [2]}',
    "huge runs": f'{{"kind": "mask", "id": 1, "shape_kji": [1, 1, 2], "runs": [{HUGE}]}}',
    "runs that wrap around": f'{{"kind": "mask", "id": 1, "shape_kji": [1, 1, 2], "runs": {[2**62] * 4 + [2]}}}',
    "runs that are too few": '{"kind": "mask", "id": 1, "shape_kji": [1, 1, 2], "runs": [1]}',
}


@pytest.mark.parametrize("name", DAMAGED)
def test_numbers_that_no_scan_has_are_refused(name: str) -> None:
    with pytest.raises(PromptError):
        prompts_from_json(f'{{"format": "{LOG_FORMAT}", "prompts": [{DAMAGED[name]}]}}')
