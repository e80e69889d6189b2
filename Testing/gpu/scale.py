"""How large the parts of the GPU report are: the real thing, or a trial that a CPU gets through."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """How large; the defaults are the real thing, `TINY` a trial on a CPU."""

    crop: int = 128
    tokens: tuple[int, ...] = (512, 4096, 32768, 262144)
    cases: int = 1000
    product: int = 8192
    copy_mb: int = 2048
    sam_size: int = 1024
    sam_depth: int = 12
    slices: int = 128
    scan: tuple[int, int, int] = (512, 512, 400)
    seconds: float = 5.0
    clicks: int = 12
    training_crop: int = 0  # 0: the batches of the configs
    training_steps: int = 8


TINY = Scale(
    crop=32, tokens=(64, 512), cases=1, product=256, copy_mb=4, sam_size=224, sam_depth=1, slices=2,
    scan=(64, 64, 48), seconds=0.2, clicks=2, training_crop=16, training_steps=1,
)  # fmt: skip
