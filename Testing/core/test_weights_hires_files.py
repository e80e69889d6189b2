"""Files of the project's own network: which are taken, which are refused, and what looking at them costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from FastSAM3DCore import WeightsError, load_model
from FastSAM3DCore.modeling.hires import HiresConfig, HiresModel, build_hires, load_hires, save_hires
from FastSAM3DCore.weights.cache import WeightsCache
from FastSAM3DCore.weights.convert import convert_weights
from FastSAM3DCore.weights.install import import_weights

ROOT = Path(__file__).parents[2]
TINY = HiresConfig(name="tiny", stem=8, middle=16, width=32, heads=2, depth=2, attention_from=0, decoder=(8, 16, 32))


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_hires(build_hires(TINY), path)
    return path


def claiming(source: Path, **sizes: Any) -> Path:
    """The same weights in a file that claims other sizes."""
    path = source.with_name("claiming.safetensors")
    config = json.dumps({**json.loads(TINY.to_json()), **sizes})
    save_file(load_file(source), path, {"arch": "fastsam3d-hires", "config": config})
    return path


def starting_like_a_pickle(source: Path) -> Path:
    """The same network in a file whose first byte, the lowest of its header's length, is 0x80."""
    path = source.with_name("padded.safetensors")
    for length in range(0, 264, 8):
        save_hires(load_hires(source), path, {"note": "x" * length})
        if path.read_bytes().startswith(b"\x80"):
            return path
    raise AssertionError("no length of the note gives this byte")


def test_a_header_whose_length_starts_like_a_pickle_is_no_pickle(network: Path) -> None:
    loaded = load_model(starting_like_a_pickle(network), "cpu")
    assert isinstance(loaded, HiresModel)
    for name, tensor in load_hires(network).state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_weights_that_do_not_fit_their_network_are_neither_converted_nor_imported(
    tmp_path: Path, cache: WeightsCache
) -> None:
    path, target = tmp_path / "one_tensor.safetensors", tmp_path / "out.safetensors"
    save_file({"a": torch.zeros(3)}, path, {"arch": "fastsam3d-hires", "config": "{}"})
    with pytest.raises(WeightsError, match=r"does not fit its configuration.* is missing"):
        convert_weights(path, target)
    with pytest.raises(WeightsError, match="does not fit its configuration"):
        import_weights(path, cache, name="own")
    assert not target.exists()
    assert not cache.records()


def test_a_claim_of_other_sizes_is_refused_before_a_network_of_them_is_made(network: Path) -> None:
    path = claiming(network, width=512)
    before = torch.get_rng_state()
    with pytest.raises(WeightsError, match=r"encoder\.down2\.weight has shape \(32, 16, 2, 2, 2\), not \(512, 16"):
        load_model(path, "cpu")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"width": 100_000, "heads": 1}, r"width must be a whole number from 1 to 1024, not 100000"),
        ({"heads": 3}, "32 channels do not go with 3 heads of sparse attention"),
        ({"heads": 1}, "32 channels do not go with 1 heads of sparse attention"),
        ({"stem": 28}, "28.* must be divisible by"),
    ],
)
def test_sizes_of_no_network_are_refused_in_one_line(network: Path, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        load_model(claiming(network, **sizes), "cpu")
    assert "\n" not in str(caught.value)


def test_a_network_in_memory_does_not_change_with_its_file(tmp_path: Path, network: Path) -> None:
    path = tmp_path / "full.safetensors"
    convert_weights(network, path)
    loaded = load_hires(path)
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    before = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    size = path.stat().st_size
    with path.open("r+b") as file:  # in place: a mapped file would show it
        file.seek(size // 2)
        file.write(bytes(size - size // 2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.state_dict().items())


def test_loading_the_bundled_network_imports_no_compiler() -> None:
    code = (
        "import sys\nfrom FastSAM3DCore import load_model\nload_model(device='cpu')\n"
        "print(sorted({'torch._inductor', 'triton', 'sympy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
