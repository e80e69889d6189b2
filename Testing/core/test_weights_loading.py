"""Every published layout loads; nothing in a file is executed; what is wrong is said."""

from __future__ import annotations

import argparse
import collections
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from FastSAM3DCore import WeightsError, load_model
from FastSAM3DCore.errors import DeviceError
from FastSAM3DCore.weights.loading import load_encoder
from Testing.core.weights_helpers import TINY_STUDENT, TINY_TEACHER, answer, tiny_model, tiny_state

State = dict[str, Tensor]


def training_checkpoint(state: State) -> dict[str, Any]:
    """As FastSAM3D.pth: weights beside optimiser state, a Namespace, a Counter and a device."""
    return {
        "epoch": 12,
        "model_state_dict": collections.OrderedDict(state),
        "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 8e-4}]},
        "lr_scheduler_state_dict": {"milestones": collections.Counter({60: 1, 90: 1}), "last_epoch": 12},
        "args": argparse.Namespace(model_type="vit_b_ori", device=torch.device("cuda:0"), lr=8e-4),
        "losses": [0.3, 0.2],
        "used_datas": None,
    }


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "model_state_dict": lambda state: {"model_state_dict": state},
    "model": lambda state: {"model": state, "epoch": 3},
    "nested_twice": lambda state: {"model": {"state_dict": state}},
    "module_prefix": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "nested_module_prefix": lambda state: {"model_state_dict": {f"module.{n}": t for n, t in state.items()}},
    "parameters": lambda state: {name: torch.nn.Parameter(tensor) for name, tensor in state.items()},
    "training": training_checkpoint,
}


@pytest.mark.parametrize("config", [TINY_STUDENT, TINY_TEACHER], ids=lambda config: config.name)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old_pickle"])
def test_every_published_layout_gives_the_network_that_was_saved(
    tmp_path: Path, config: Any, layout: str, zipped: bool
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](tiny_state(config)), path, _use_new_zipfile_serialization=zipped)
    loaded = load_model(path, "cpu")
    torch.testing.assert_close(answer(loaded), answer(tiny_model(config)), atol=0, rtol=0)
    assert loaded.traits.name == "weights"
    assert not loaded.training  # type: ignore[attr-defined]


def test_safetensors_in_half_precision_load_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({name: tensor.half() for name, tensor in tiny_state().items()}, path)
    loaded = load_model(str(path), "cpu")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}  # type: ignore[attr-defined]
    torch.testing.assert_close(answer(loaded), answer(tiny_model()), atol=0.05, rtol=0.05)


def test_the_residual_rule_follows_the_architecture_and_can_be_overridden(tmp_path: Path) -> None:
    student, teacher = tmp_path / "student.pth", tmp_path / "teacher.pth"
    torch.save(tiny_state(TINY_STUDENT), student)
    torch.save(tiny_state(TINY_TEACHER), teacher)
    assert load_model(student, "cpu").config.residual == "normed"  # type: ignore[attr-defined]
    assert load_model(teacher, "cpu").config.residual == "pre"  # type: ignore[attr-defined]
    other = load_model(teacher, "cpu", residual="normed")
    assert float((answer(other) - answer(load_model(teacher, "cpu"))).abs().max()) > 1e-3


def encoder_only(state: State, prefix: str) -> State:
    encoder = {name: tensor for name, tensor in state.items() if name.startswith("image_encoder.")}
    return {prefix + name.removeprefix("image_encoder."): tensor for name, tensor in encoder.items()}


@pytest.mark.parametrize("prefix", ["", "image_encoder.", "module."])
def test_an_encoder_alone_is_refused_as_a_model_but_completed_and_loaded_as_an_encoder(
    tmp_path: Path, prefix: str
) -> None:
    path, full = tmp_path / "encoder.pth", tmp_path / "full.pth"
    torch.save({"model_state_dict": encoder_only(tiny_state(), prefix)}, path)
    torch.save(tiny_state(), full)
    with pytest.raises(WeightsError, match="lacks prompt encoder and decoder"):
        load_model(path, "cpu")
    torch.testing.assert_close(answer(load_model(path, "cpu", decoder_from=full)), answer(tiny_model()), atol=0, rtol=0)
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(load_encoder(path)(image), tiny_model().encode(image), atol=0, rtol=0)


class Payload:
    """Pickles to a call; unpickling it naively runs the call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def hostile(marker: Path) -> dict[str, Any]:
    return {
        "system": Payload(os.system, f"touch {marker}"),
        "eval": Payload(eval, f"open({str(marker)!r}, 'w')"),
        "mkdir": Payload(os.mkdir, str(marker)),
        "inside_namespace": argparse.Namespace(innocent=Payload(os.mkdir, str(marker))),
        "inside_counter": collections.Counter({"a": Payload(os.mkdir, str(marker))}),
    }


@pytest.mark.parametrize("kind", ["system", "eval", "mkdir", "inside_namespace", "inside_counter"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old_pickle"])
def test_a_hostile_pickle_is_refused_and_nothing_in_it_runs(tmp_path: Path, kind: str, zipped: bool) -> None:
    marker, path = tmp_path / "it_ran", tmp_path / "FastSAM3D.pth"
    content = {"model_state_dict": tiny_state(), "args": hostile(marker)[kind]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"refused.*Nothing in it was run"):
        load_model(path, "cpu")
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the payload is live: it does run where pickles are trusted
    assert marker.exists()


def test_a_plain_pickle_that_calls_something_is_refused(tmp_path: Path) -> None:
    marker, path = tmp_path / "it_ran", tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(Payload(os.mkdir, str(marker)), protocol=2))
    with pytest.raises(WeightsError):
        load_model(path, "cpu")
    assert not marker.exists()


def test_a_strict_load_names_the_first_five_differing_keys(tmp_path: Path) -> None:
    path, state = tmp_path / "odd.pth", tiny_state()
    renamed = {name.replace("mask_decoder.", "decoder."): tensor for name, tensor in state.items()}
    torch.save(renamed, path)
    first = [name for name in state if name.startswith("mask_decoder.")][:6]
    with pytest.raises(WeightsError) as caught:
        load_model(path, "cpu")
    assert all(f"{name} is missing" in str(caught.value) for name in first[:5])
    assert first[5] not in str(caught.value)


def bad_files(folder: Path) -> dict[str, bytes]:
    whole = folder / "whole.pth"
    torch.save(tiny_state(), whole)
    old = folder / "old.pth"
    torch.save(tiny_state(), old, _use_new_zipfile_serialization=False)
    safe = folder / "whole.safetensors"
    save_file(tiny_state(), safe)
    return {
        "empty": b"",
        "web_page": b"<!DOCTYPE html><html>log in</html>",
        "lfs_pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
        "text": b"these are not weights",
        "cut_zip": whole.read_bytes()[:-2000],
        "cut_old": old.read_bytes()[:-2000],
        "cut_header": safe.read_bytes()[:40],
        "cut_safetensors": safe.read_bytes()[:-2000],
        "no_weights": pickle.dumps({"epoch": 3}, protocol=2),
    }


@pytest.mark.parametrize(
    "kind",
    ["empty", "web_page", "lfs_pointer", "text", "cut_zip", "cut_old", "cut_header", "cut_safetensors", "no_weights"],
)
def test_an_unusable_file_is_named_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.pth"
    path.write_bytes(bad_files(tmp_path)[kind])
    with pytest.raises(WeightsError, match=r"bad\.pth") as caught:
        load_model(path, "cpu")
    assert "\n" not in str(caught.value)


def test_bytes_flipped_anywhere_never_raise_anything_but_a_weights_error(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.pth", tmp_path / "flipped.pth"
    torch.save({"model_state_dict": {"a.weight": torch.zeros(3)}, "args": argparse.Namespace(lr=1)}, whole)
    content = whole.read_bytes()
    for position in range(0, len(content), 41):
        flipped = bytearray(content)
        flipped[position] ^= 0xFF
        path.write_bytes(flipped)
        with pytest.raises(WeightsError):  # even undamaged, the file holds no network
            load_model(path, "cpu")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv1.weight": torch.zeros(64, 3, 7, 7)}, "not the weights of a SAM-Med3D"),
        ({"a": torch.zeros(2, dtype=torch.int64)}, "no weights file"),
        ({"a": torch.zeros(4, 4).to_sparse()}, "no weights file"),
        ([torch.zeros(3)], "holds no weights"),
        ({"args": argparse.Namespace(lr=1)}, "holds no weights"),
    ],
)
def test_weights_of_something_else_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=message):
        load_model(path, "cpu")


def test_names_that_mean_nothing_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"Unknown model 'fastsam'.*default, fastsam3d, sam-med3d-turbo"):
        load_model("fastsam", "cpu", cache_dir=tmp_path)
    with pytest.raises(WeightsError, match="there is no such file"):
        load_model(tmp_path / "missing.pth", "cpu")


def test_a_published_model_that_was_not_imported_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="weights download fastsam3d"):
        load_model("fastsam3d", "cpu", cache_dir=tmp_path)


def test_an_unknown_device_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(tiny_state(), path)
    with pytest.raises(DeviceError, match="use auto, cpu"):
        load_model(path, "gpu")
