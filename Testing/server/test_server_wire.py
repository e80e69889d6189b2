"""Messages: what goes in comes out, and nothing that was not announced is taken."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest

from FastSAM3DCore import errors
from FastSAM3DCore.errors import FastSAM3DError, ImageError, PromptError, RemoteError
from FastSAM3DCore.serving.messages import (
    UPDATE_ARRAYS,
    call_from,
    error_fields,
    error_from,
    pack_update,
    update_from,
)
from FastSAM3DCore.serving.uploads import VolumeUpload, geometry_of, volume_pieces
from FastSAM3DCore.serving.wire import MAGIC, VOXEL_TYPES, inflate, pack, unpack
from FastSAM3DCore.types import MaskUpdate, Volume, VoxelBox


def sent(volume: Volume, piece: int = 1000, maximum: int = 10**9) -> Volume:
    """A scan through the upload, cut into pieces as a network would."""
    upload = VolumeUpload(geometry_of(volume), maximum)
    data = b"".join(volume_pieces(volume))
    for at in range(0, len(data), piece):
        upload.feed(data[at : at + piece])
    return upload.volume()


@pytest.mark.parametrize("dtype", [*sorted(VOXEL_TYPES), ">i2", ">f4"])
def test_arrays_of_every_type_survive(dtype):
    array = (np.random.default_rng(0).random((3, 4, 5)) * 100).astype(dtype)
    fields, arrays = unpack(pack({"a": [1, None, "ö"]}, {"x": array}), maximum_voxels=60)
    assert fields == {"a": [1, None, "ö"]}
    assert np.array_equal(arrays["x"], array)


def test_masks_travel_as_bits():
    mask = (np.random.default_rng(0).random((30, 31, 29)) > 0.5).astype(np.uint8)
    packed = pack({}, {"mask": mask}, bits="mask")
    assert len(packed) < mask.size / 7
    assert np.array_equal(unpack(packed, maximum_voxels=mask.size)[1]["mask"], mask)


def test_an_update_survives_with_all_it_has():
    box = VoxelBox((1, 2, 3), (4, 4, 4))
    rng = np.random.default_rng(1)
    update = MaskUpdate(
        box,
        (rng.random((1, 2, 3)) > 0.5).astype(np.uint8),
        rng.random((1, 2, 3)).astype(np.float32),
        rng.random((1, 2, 3)).astype(np.float32),
        7,
        {"total": 0.25},
    )
    again = update_from(unpack(pack_update(update, {}), maximum_voxels=UPDATE_ARRAYS * 6))
    assert (again.box, again.prompt_id, again.seconds) == (box, 7, {"total": 0.25})
    for name in ("mask", "probability", "uncertainty"):
        assert np.array_equal(getattr(again, name), getattr(update, name))


def damaged_messages():
    good = pack({"call": "undo", "number": 1}, {"x": np.arange(8, dtype=np.uint8)})
    yield "other program", b"<html>" + good
    yield "cut short", good[:-3]
    yield "too long", good + b"x"
    yield "flipped byte", good[: len(good) - 2] + bytes([good[-2] ^ 255]) + good[-1:]
    yield "empty", b""
    yield "only magic", MAGIC
    yield "absurd length", MAGIC + struct.pack("<I", 2**32 - 1) + b"x"
    head = lambda data: zlib.compress(json.dumps(data).encode())  # noqa: E731
    for name, block in {
        "objects": {"dtype": "|O", "shape": [1], "bits": False},
        "negative": {"dtype": "|u1", "shape": [-1, 8], "bits": False},
        "huge": {"dtype": "<f8", "shape": [100000, 100000], "bits": False},
        "endless": {"dtype": "|u1", "shape": [float("inf")], "bits": False},
        "no shape": {"dtype": "|u1", "bits": False},
    }.items():
        h = head({"fields": {}, "blocks": [{"name": "x", "bytes": 0, **block}]})
        yield name, MAGIC + struct.pack("<I", len(h)) + h
    h = zlib.compress(b"[" * 100_000)
    yield "endless lists", MAGIC + struct.pack("<I", len(h)) + h
    h = head({"fields": {}, "blocks": "no"})
    yield "no list", MAGIC + struct.pack("<I", len(h)) + h


@pytest.mark.parametrize(("name", "data"), list(damaged_messages()))
def test_damaged_messages_are_refused(name, data):
    with pytest.raises(RemoteError):
        unpack(data, maximum_voxels=1000)


def test_a_small_message_cannot_unpack_to_more_than_it_announced():
    bomb = zlib.compress(bytes(10**8))
    assert len(bomb) < 10**6
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        inflate(bomb, 1000)
    h = zlib.compress(
        json.dumps(
            {
                "fields": {},
                "blocks": [{"name": "x", "dtype": "|u1", "shape": [1000], "bits": False, "bytes": len(bomb)}],
            }
        ).encode()
    )
    with pytest.raises(RemoteError, match="more than 1000 bytes"):
        unpack(MAGIC + struct.pack("<I", len(h)) + h + bomb, maximum_voxels=1000)


def test_many_arrays_together_may_be_no_larger_than_one():
    message = pack({}, {name: np.zeros(400, np.uint8) for name in "abc"}, bits="b")
    assert len(unpack(message, maximum_voxels=1200)[1]) == 3
    with pytest.raises(RemoteError, match="larger than allowed"):
        unpack(message, maximum_voxels=1199)


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f8", "|u1", "|b1"])
@pytest.mark.parametrize("piece", [1, 777, 10**7])
def test_a_scan_survives_the_upload_however_the_network_cuts_it(dtype, piece):
    array = np.random.default_rng(2).integers(0, 2, (7, 11, 13)).astype(dtype)
    affine = np.diag([0.7, -0.8, 2.0, 1.0])
    again = sent(Volume(array, affine), piece)
    assert np.array_equal(again.array_kji, array)
    assert np.array_equal(again.ijk_to_ras, affine)
    assert again.array_kji.flags.writeable


def test_an_empty_scan_of_many_voxels_arrives_although_it_shrinks_to_nothing():
    array = np.zeros((40, 512, 512), np.int16)
    array[3, 4, 5] = 7
    assert len(b"".join(volume_pieces(Volume(array)))) < array.nbytes / 100
    assert np.array_equal(sent(Volume(array), 10**6).array_kji, array)


def test_a_scan_that_is_not_contiguous_is_sent_as_it_is_seen():
    array = np.arange(4 * 6 * 8, dtype=np.int16).reshape(4, 6, 8)[::2, ::-1, 1:]
    assert np.array_equal(sent(Volume(array)).array_kji, array)


def test_uploads_that_break_their_word_are_refused():
    volume = Volume(np.arange(1000, dtype=np.int16).reshape(10, 10, 10))
    data = b"".join(volume_pieces(volume))
    with pytest.raises(ImageError, match="takes 0 MB"):
        VolumeUpload(geometry_of(volume), 1999)
    half = VolumeUpload(geometry_of(volume), 2000)
    half.feed(data[: len(data) // 2])
    with pytest.raises(RemoteError, match="completely"):
        half.volume()
    more = VolumeUpload(geometry_of(volume), 2000)
    with pytest.raises(RemoteError, match="More voxels"):
        more.feed(zlib.compress(bytes(2001)))
    with pytest.raises(RemoteError, match="damaged"):
        VolumeUpload(geometry_of(volume), 2000).feed(b"not compressed")
    for text in ("", "{}", "[" * 100_000, '{"dtype": "|O", "shape_kji": [1,1,1], "ijk_to_ras": []}'):
        with pytest.raises(RemoteError, match="damaged"):
            VolumeUpload(text, 2000)
    for shape in ([-1, 1, 2], [1, 1, 1, 1, 2], [1e999, 1, 2], [0, 10**30, 1]):
        with pytest.raises(RemoteError, match="damaged"):
            VolumeUpload(json.dumps(json.loads(geometry_of(volume)) | {"shape_kji": shape}), 2000)
    flat = json.loads(geometry_of(volume)) | {"ijk_to_ras": np.zeros((4, 4)).tolist()}
    with pytest.raises(ImageError, match="spacing"):
        VolumeUpload(json.dumps(flat), 2000)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"call": "add_point", "number": 1, "ijk": [1, 2], "positive": True}, PromptError),
        ({"call": "add_point", "number": 1, "ijk": "abc", "positive": True}, PromptError),
        ({"call": "add_scribble", "number": 1, "ijk": 5, "positive": True}, RemoteError),
        ({"call": "add_box", "number": 1, "box": [1, 2, 3]}, PromptError),
        ({"call": "replay", "number": 1, "prompts": [{"kind": "spell", "id": 1}]}, PromptError),
        ({"call": "__class__", "number": 1}, RemoteError),
        ({"call": "close", "number": 1}, RemoteError),
        ({"call": "add_point", "number": 1, "ijk": [10**400, 1, 1], "positive": True}, PromptError),
        ({"call": "add_box", "number": 1, "box": [[1, 1, 1], [float("inf"), 9, 9]]}, PromptError),
        ({"call": "move_prompt", "number": 1, "id": float("inf"), "ijk": [1, 1, 1]}, RemoteError),
        ({"call": "set_threshold", "number": 1, "probability": 10**400}, RemoteError),
        ({"call": "undo", "number": float("inf")}, RemoteError),
        ({"call": "undo"}, RemoteError),
        ({"call": ["undo"], "number": 1}, RemoteError),
    ],
)
def test_calls_that_make_no_sense_are_refused_before_the_session_hears_of_them(fields, kind):
    with pytest.raises(kind):
        call_from((fields, {}))


@pytest.mark.parametrize("name", sorted(errors.__all__))
def test_every_error_arrives_as_the_same_class_with_the_same_words(name):
    kind = getattr(errors, name)
    again = error_from(error_fields(kind("What is wrong. What to do.")), kind.http_status)
    assert type(again) is kind
    assert str(again) == "What is wrong. What to do."


def test_somebody_elses_error_page_becomes_a_remote_error():
    for fields in (None, [], {"error": "SystemExit"}, {"detail": "Not Found"}):
        error = error_from(fields, 404)
        assert type(error) is RemoteError
        assert "404" in str(error)
    assert issubclass(RemoteError, FastSAM3DError)
