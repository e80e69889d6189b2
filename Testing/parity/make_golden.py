"""Write golden.safetensors: run it only after the parity tests against the reference tensors have passed.

python -m Testing.parity.make_golden
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from Testing.parity.golden_cases import GOLDEN_CONFIGS, golden_outputs

GOLDEN = Path(__file__).with_name("golden.safetensors")


def main() -> None:
    tensors = {
        name: tensor.contiguous() for config in GOLDEN_CONFIGS for name, tensor in golden_outputs(config).items()
    }
    save_file(tensors, GOLDEN)
    print(f"{GOLDEN}: {len(tensors)} tensors, {GOLDEN.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
