"""A session says which weights answer, so that what it makes can carry their digest."""

from __future__ import annotations

import hashlib

import pytest

from FastSAM3DCore import open_session
from FastSAM3DCore.errors import WeightsError
from FastSAM3DCore.types import ModelIdentity
from FastSAM3DCore.weights.identity import identify
from FastSAM3DCore.weights.manifest import manifest_entry


def test_a_bundled_model_is_named_with_the_digest_of_its_own_file():
    path = manifest_entry("default").bundled_path
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert identify("default") == ModelIdentity("default", digest)
    assert open_session("default", "cpu").model == ModelIdentity("default", digest)


def test_a_file_is_named_without_its_folder_and_hashed_again_after_a_change(tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"one")
    assert identify(path) == ModelIdentity("mine.safetensors", hashlib.sha256(b"one").hexdigest())
    path.write_bytes(b"another")
    assert identify(str(path)).sha256 == hashlib.sha256(b"another").hexdigest()


def test_unknown_weights_are_refused():
    with pytest.raises(WeightsError, match="Unknown model"):
        identify("no-such-model")


def test_it_reads_well_in_a_status_line():
    assert str(ModelIdentity("default", "0123456789ab")) == "default (01234567)"
    assert str(ModelIdentity("default")) == "default"
    assert str(ModelIdentity()) == "unnamed model"
