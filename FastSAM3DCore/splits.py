"""Which cases train and which never do: the split file, as `Resources/training/splits.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import ImageError

__all__ = ["read_splits"]


def read_splits(path: Path) -> dict[str, Any]:
    """The lists of case names in a split file: "train", "held_out" and others, by name.

    Raises:
        ImageError: the file cannot be read or is not a JSON object.
    """
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ImageError(
            f"Cannot read the split file {path} ({error.strerror}); relative paths, in a config too, count from the "
            "folder that the command is started in, for the bundled ones the repository's."
        ) from error
    except ValueError as error:
        raise ImageError(f"The split file {path} is not JSON ({error}).") from error
    if not isinstance(splits, dict):
        raise ImageError(f"The split file {path} is not a JSON object with lists of cases such as 'train'.")
    return splits
