"""Import, conversion, verification, removal, the manifest, and where files are looked for."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from FastSAM3DCore import FastSAM3DError, OutputError, WeightsError, load_model
from FastSAM3DCore.resources import resource_path, resource_roots
from FastSAM3DCore.weights.cache import WeightsCache, cache_folder
from FastSAM3DCore.weights.convert import convert_weights
from FastSAM3DCore.weights.install import import_weights, list_models
from FastSAM3DCore.weights.manifest import load_manifest, update_manifest
from FastSAM3DCore.weights.verify import verify_weights
from Testing.core.weights_helpers import TINY_STUDENT, TINY_TEACHER, answer, install_tree, tiny_model, tiny_state


@pytest.fixture
def student_file(tmp_path: Path) -> Path:
    path = tmp_path / "FastSAM3D.pth"
    torch.save({"model_state_dict": tiny_state(), "optimizer_state_dict": {"m": torch.zeros(9)}}, path)
    return path


@pytest.fixture
def teacher_file(tmp_path: Path) -> Path:
    path = tmp_path / "sam_med3d_turbo.pth"
    torch.save({"model_state_dict": tiny_state(TINY_TEACHER)}, path)
    return path


@pytest.mark.parametrize(("config", "name"), [(TINY_STUDENT, "fastsam3d"), (TINY_TEACHER, "sam-med3d-turbo")])
def test_an_imported_file_gets_the_name_of_its_architecture_and_loads_by_it(
    cache: WeightsCache, student_file: Path, teacher_file: Path, config: Any, name: str
) -> None:
    file = student_file if name == "fastsam3d" else teacher_file
    before = file.read_bytes()
    kept, record = import_weights(file, cache)
    assert kept == name
    assert record.source_sha256 == hashlib.sha256(before).hexdigest()
    assert file.read_bytes() == before
    torch.testing.assert_close(
        answer(load_model(name, "cpu", cache_dir=cache.folder)), answer(tiny_model(config)), atol=0, rtol=0
    )
    assert sorted(load_file(cache.path_of(name))) == sorted(tiny_state(config))  # no optimiser state


def test_a_file_can_be_imported_under_a_name_of_its_own(cache: WeightsCache, student_file: Path) -> None:
    import_weights(student_file, cache, name="our-liver-model")
    assert load_model("our-liver-model", "cpu", cache_dir=cache.folder).traits.name == "our-liver-model"
    assert {status.name: status.state for status in list_models(cache)}["our-liver-model"] == "installed"


@pytest.mark.parametrize("name", ["../outside", "", "a/b", ".hidden", "x" * 65])
def test_a_name_that_is_no_file_name_is_refused(cache: WeightsCache, student_file: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="cannot name a model"):
        import_weights(student_file, cache, name=name)
    assert not cache.folder.exists()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_name_that_would_be_taken_for_a_file_is_refused(cache: WeightsCache, student_file: Path, suffix: str) -> None:
    with pytest.raises(WeightsError, match=rf"'student\{suffix}' would be taken for a file.*'student' instead"):
        import_weights(student_file, cache, name="student" + suffix)
    assert not cache.folder.exists()
    import_weights(student_file, cache, name="student.v2")
    assert load_model("student.v2", "cpu", cache_dir=cache.folder)


def test_importing_the_wrong_architecture_under_a_published_name_is_refused(
    cache: WeightsCache, teacher_file: Path
) -> None:
    with pytest.raises(WeightsError, match="architecture sam-med3d, but 'fastsam3d' is fastsam3d"):
        import_weights(teacher_file, cache, name="fastsam3d")
    with pytest.raises(WeightsError, match="comes with the installation"):
        import_weights(teacher_file, cache, name="default")
    assert not list(cache.folder.glob("*.safetensors"))
    assert not list(cache.downloads.glob("*.safetensors"))


def test_an_import_with_another_digest_than_pinned_is_refused(cache: WeightsCache, student_file: Path) -> None:
    with pytest.raises(WeightsError, match="as pinned"):
        import_weights(student_file, cache, sha256="ab" * 32)
    with pytest.raises(WeightsError, match="64 hexadecimal digits"):
        import_weights(student_file, cache, sha256="abc")
    digest = hashlib.sha256(student_file.read_bytes()).hexdigest()
    assert import_weights(student_file, cache, sha256=digest.upper())[1].trusted == "pinned"


def test_another_file_for_a_model_that_is_installed_is_refused_until_it_is_removed(
    cache: WeightsCache, student_file: Path, tmp_path: Path
) -> None:
    _, first = import_weights(student_file, cache)
    other = tmp_path / "other.pth"
    torch.save(tiny_state(), other)
    for name in (None, "fastsam3d"):
        with pytest.raises(WeightsError, match="recorded when it was first installed"):
            import_weights(other, cache, name=name)
    assert cache.records() == {"fastsam3d": first}
    assert [r.ok for r in verify_weights(cache, ["fastsam3d"])] == [True]
    cache.remove("fastsam3d")
    assert import_weights(other, cache)[1].source_sha256 != first.source_sha256


def test_verification_finds_a_changed_a_lost_and_an_unrecorded_file(cache: WeightsCache, student_file: Path) -> None:
    import_weights(student_file, cache)
    assert [r.ok for r in verify_weights(cache, ["fastsam3d"])] == [True]
    path = cache.path_of("fastsam3d")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert [(r.ok, "has changed" in r.detail) for r in verify_weights(cache, ["fastsam3d"])] == [(False, True)]
    path.unlink()
    assert [(r.ok, "is gone" in r.detail) for r in verify_weights(cache, ["fastsam3d"])] == [(False, True)]
    shutil.copy(student_file, cache.path_of("sam-med3d-turbo"))
    assert [r.ok for r in verify_weights(cache, ["sam-med3d-turbo"])] == [False]


def test_what_is_not_installed_is_no_failure_and_an_unknown_name_is(cache: WeightsCache) -> None:
    assert [(r.ok, r.detail) for r in verify_weights(cache, ["fastsam3d"])] == [(None, "not installed")]
    with pytest.raises(WeightsError, match="Unknown model 'nothing'"):
        verify_weights(cache, ["nothing"])


def test_removal_frees_the_file_the_partial_download_and_the_record(cache: WeightsCache, student_file: Path) -> None:
    import_weights(student_file, cache)
    part = cache.part_of("fastsam3d")
    part.write_bytes(b"half")
    assert cache.remove("fastsam3d") > 4
    assert not cache.path_of("fastsam3d").exists()
    assert not part.exists()
    assert cache.records() == {}
    with pytest.raises(WeightsError, match="not in the cache"):
        cache.remove("fastsam3d")


def test_a_damaged_index_is_named(cache: WeightsCache, student_file: Path) -> None:
    import_weights(student_file, cache)
    (cache.folder / "index.json").write_text('{"fastsam3d": {"sha256"')
    with pytest.raises(WeightsError, match=r"index\.json is damaged"):
        verify_weights(cache)


@pytest.mark.parametrize(("half", "dtype"), [(False, torch.float32), (True, torch.float16)])
def test_conversion_keeps_weights_and_residual_rule(
    tmp_path: Path, student_file: Path, half: bool, dtype: torch.dtype
) -> None:
    target = tmp_path / "out" / "student.safetensors"
    assert convert_weights(student_file, target, half=half, residual="pre") == "fastsam3d"
    tensors = load_file(target)
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    for name, tensor in tiny_state().items():
        assert torch.equal(tensors[name], tensor.to(dtype))
    with safe_open(target, "pt") as archive:
        assert archive.metadata()["residual"] == "pre"
    assert load_model(target, "cpu").config.residual == "pre"  # type: ignore[attr-defined]
    assert load_model(target, "cpu", residual="normed").config.residual == "normed"  # type: ignore[attr-defined]


def test_conversion_completes_an_encoder_with_another_models_decoder(tmp_path: Path, student_file: Path) -> None:
    encoder, target = tmp_path / "encoder.pth", tmp_path / "whole.safetensors"
    state = {n.removeprefix("image_encoder."): t for n, t in tiny_state().items() if n.startswith("image_encoder.")}
    torch.save({"model_state_dict": state}, encoder)
    with pytest.raises(WeightsError, match="--decoder-from"):
        convert_weights(encoder, target)
    with pytest.raises(WeightsError, match="only an image encoder too"):
        convert_weights(encoder, target, decoder_from=encoder)
    assert not target.exists()
    convert_weights(encoder, target, decoder_from=student_file)
    torch.testing.assert_close(answer(load_model(target, "cpu")), answer(tiny_model()), atol=0, rtol=0)


@pytest.mark.parametrize(("value", "half", "advice"), [(1e6, True, "without --half"), (float("nan"), False, "damaged")])
def test_numbers_that_are_not_finite_are_refused_and_the_old_output_stays(
    tmp_path: Path, value: float, half: bool, advice: str
) -> None:
    source, target = tmp_path / "in.pth", tmp_path / "out.safetensors"
    state = tiny_state()
    state["mask_decoder.iou_token.weight"] = torch.full((1, 48), value)
    torch.save(state, source)
    target.write_bytes(b"what was there before")
    with pytest.raises(WeightsError, match=advice):
        convert_weights(source, target, half=half)
    assert target.read_bytes() == b"what was there before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.pth", "out.safetensors"]


def test_an_output_is_replaced_as_a_whole_never_rewritten_in_place(tmp_path: Path, student_file: Path) -> None:
    target, reader = tmp_path / "out.safetensors", tmp_path / "still_open"
    target.write_bytes(b"what a reader has mapped")
    reader.hardlink_to(target)
    convert_weights(student_file, target)
    assert reader.read_bytes() == b"what a reader has mapped"
    assert target.stat().st_size > 1000


def test_a_target_that_cannot_be_written_is_reported(tmp_path: Path, student_file: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        convert_weights(student_file, tmp_path / "file" / "out.safetensors")
    with pytest.raises(OutputError, match=r"end in \.safetensors"):
        convert_weights(student_file, tmp_path / "out.pth")


def test_a_disk_that_fills_up_while_converting_leaves_nothing_behind(tmp_path: Path, student_file: Path) -> None:
    target = tmp_path / "out.safetensors"
    # A real limit on file size: the write fails as on a full disk, in a process of its own.
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from FastSAM3DCore.errors import OutputError\nfrom FastSAM3DCore.weights.convert import convert_weights\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n    convert_weights(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except OutputError as error:\n    print(error)\n"
    )
    pytest.importorskip("resource", reason="this system cannot limit file sizes")
    command = [sys.executable, "-c", code, str(student_file), str(target)]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert "cannot be written" in result.stdout
    assert [p.name for p in tmp_path.iterdir()] == [student_file.name]


def test_weights_of_the_projects_own_architecture_are_loaded_by_its_own_loader(
    tmp_path: Path, cache: WeightsCache
) -> None:
    hires = pytest.importorskip("FastSAM3DCore.modeling.hires")
    model = hires.build_hires(hires.student_config()).eval()
    path, full, half = (tmp_path / f"{name}.safetensors" for name in ("own", "full", "half"))
    hires.save_hires(model, path)
    loaded = load_model(path, "cpu")
    assert isinstance(loaded, hires.HiresModel)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    assert convert_weights(path, full) == convert_weights(path, half, half=True) == "fastsam3d-hires"
    assert half.stat().st_size < 0.6 * full.stat().st_size
    assert isinstance(load_model(half, "cpu"), hires.HiresModel)
    with pytest.raises(WeightsError, match="give one with --name"):
        import_weights(path, cache)
    import_weights(path, cache, name="own")
    assert isinstance(load_model("own", "cpu", cache_dir=cache.folder), hires.HiresModel)


def test_the_cache_is_where_each_system_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("/chosen", {"FASTSAM3D_CACHE": "/env"}) == Path("/chosen")
    assert cache_folder(None, {"FASTSAM3D_CACHE": "/env", "XDG_CACHE_HOME": "/xdg"}) == Path("/env")
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder(None, {"XDG_CACHE_HOME": "/xdg"}) == Path("/xdg/fastsam3d")
    assert cache_folder(None, {}) == tmp_path / ".cache" / "fastsam3d"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder(None, {}) == tmp_path / "Library" / "Caches" / "fastsam3d"
    monkeypatch.setattr(sys, "platform", "win32")
    assert cache_folder(None, {"LOCALAPPDATA": "/local"}) == Path("/local/fastsam3d")


def test_the_manifest_names_the_published_files_and_invents_no_digest() -> None:
    models = load_manifest()
    assert list(models) == ["default", "fastsam3d", "sam-med3d-turbo"]
    assert models["fastsam3d"].urls[0].startswith("https://huggingface.co/techlove/FastSAM3D/")
    assert models["sam-med3d-turbo"].urls[0].startswith("https://huggingface.co/blueyo0/SAM-Med3D/")
    assert (models["fastsam3d"].sha256, models["sam-med3d-turbo"].sha256) == (None, None)
    assert all(model.licence == "Apache-2.0" and model.licence_url.startswith("https://") for model in models.values())


def test_the_bundled_file_is_the_one_of_the_manifest() -> None:
    entry = load_manifest()["default"]
    path = resource_path("models.json").parent / entry.file
    if not path.is_file():
        pytest.skip(f"{path} is not there yet")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256, (
        "run: python -m FastSAM3DCore.weights.manifest --update"
    )
    assert path.stat().st_size == entry.size <= 25_000_000
    assert load_model("default", "cpu").traits.name


def test_a_replaced_bundled_file_is_found_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: WeightsCache
) -> None:
    folder = install_tree(tmp_path, monkeypatch, default={"sha256": "0" * 64})
    with pytest.raises(WeightsError, match="missing from this installation"):
        load_model("default", "cpu")
    assert [r.ok for r in verify_weights(cache, ["default"])] == [False]
    (folder / "weights").mkdir()
    save_file(tiny_state(), folder / "weights" / "default.safetensors")
    assert [(r.ok, "the manifest says" in r.detail) for r in verify_weights(cache, ["default"])] == [(False, True)]
    assert update_manifest() == ["default"]
    assert [r.ok for r in verify_weights(cache, ["default"])] == [True]
    torch.testing.assert_close(answer(load_model(device="cpu")), answer(tiny_model()), atol=0, rtol=0)


def test_a_damaged_manifest_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = install_tree(tmp_path, monkeypatch)
    for text in ("{", "[]", json.dumps({"format": "fastsam3d-models/1", "models": [{"name": "x"}]})):
        (folder / "models.json").write_text(text)
        with pytest.raises(WeightsError, match="manifest"):
            load_manifest()


def test_resources_are_found_in_a_checkout_and_in_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resource_path("models.json") == Path(__file__).parents[2] / "Resources" / "models.json"
    folder = install_tree(tmp_path, monkeypatch)
    assert resource_roots() == [folder]
    inside = folder.parent / "FastSAM3DCore" / "_resources"
    shutil.copytree(folder, inside)
    assert resource_path("models.json") == inside / "models.json"
    with pytest.raises(FastSAM3DError, match="Resources/weights/none is missing"):
        resource_path("weights", "none")
