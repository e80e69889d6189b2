"""What every session promises, tested on each implementation."""

import hashlib
import json

import numpy as np
import pytest
import torch

from FastSAM3DCore.engine import Engine
from FastSAM3DCore.errors import ImageError, PromptError
from FastSAM3DCore.prompts import LassoPrompt, ScribblePrompt, prompts_from_json, prompts_to_json
from FastSAM3DCore.protocol import SegmentationSession
from FastSAM3DCore.session import LocalSession
from FastSAM3DCore.types import Volume, VoxelBox
from Testing.core.fakes import FakeSession
from Testing.core.phantoms import ball_scan
from Testing.core.toy_model import ToyModel

CENTRE = (26, 24, 17)


def local_session() -> LocalSession:
    return LocalSession(Engine(ToyModel(), torch.device("cpu")))


@pytest.fixture(scope="module")
def server():
    """A real HTTP server on loopback; its sessions are the local ones."""
    pytest.importorskip("fastapi", reason="the extra [server] is not installed")
    from Testing.server.running import running

    with running(local_session) as running_server:
        yield running_server


@pytest.fixture(params=["local", "fake", "remote"], name="make")
def _make(request):
    """Makes sessions of one kind."""
    if request.param == "remote":
        from FastSAM3DCore.serving import RemoteSession

        url = request.getfixturevalue("server").url
        made = []
        yield lambda: made.append(RemoteSession(url)) or made[-1]
        for session in made:
            session.close()
    else:
        yield {"local": local_session, "fake": FakeSession}[request.param]


@pytest.fixture(name="session")
def _session(make):
    session = make()
    session.set_image(ball_scan()[0])
    return session


def state(session) -> str:
    """A digest of everything a rejected call must leave alone."""
    digest = hashlib.sha256(session.mask().tobytes())
    digest.update(np.round(session.probability(), 3).tobytes())
    digest.update(prompts_to_json(session.prompts).encode())
    digest.update(bytes([session.can_undo, session.can_redo]))
    return digest.hexdigest()


def undo_depth(session) -> int:
    count = 0
    while session.can_undo:
        session.undo()
        count += 1
    for _ in range(count):
        session.redo()
    return count


def prompt_all(session) -> list:
    return [
        session.add_point(CENTRE),
        session.add_point((40, 50, 30), False),
        session.add_box(VoxelBox((14, 12, 5), (39, 37, 30))),
        session.add_scribble([(20, 24, 17), (30, 26, 17)]),
        session.add_lasso([(18, 18, 17), (34, 18, 17), (34, 30, 17), (18, 30, 17)]),
        session.add_scribble([(2, 2, 2), (2, 9, 2)], False),
    ]


def test_it_speaks_the_protocol(session):
    assert isinstance(session, SegmentationSession)


def test_updates_hold_the_new_content_of_the_only_box_that_changed(session):
    before = session.mask()
    for update in prompt_all(session):
        before[update.box.slices_kji] = update.mask
        assert update.mask.dtype == np.uint8
    assert np.array_equal(before, session.mask())


def test_a_positive_click_is_in_the_mask_and_a_negative_one_is_not(session):
    session.add_point(CENTRE)
    assert session.mask()[17, 24, 26] == 1
    session.add_point((28, 25, 18), False)
    assert session.mask()[18, 25, 28] == 0


def test_each_prompt_is_one_undo_step_and_redo_returns_it(session):
    masks, logs = [session.mask()], [session.prompts]
    for call in (
        lambda: session.add_point(CENTRE),
        lambda: session.add_point((3, 3, 3), False),
        lambda: session.add_scribble([(20, 24, 17), (30, 26, 17)]),
        lambda: session.set_mask(np.roll(session.mask(), 4, axis=1)),
        lambda: session.move_prompt(session.prompts[0].id, (25, 24, 17)),
        lambda: session.remove_prompt(session.prompts[1].id),
        lambda: session.reset(),
        lambda: session.add_point(CENTRE),
    ):
        call()
        masks.append(session.mask())
        logs.append(session.prompts)
    steps = range(len(masks) - 1)
    for index in reversed(steps):
        session.undo()
        assert np.array_equal(session.mask(), masks[index])
        assert prompts_to_json(session.prompts) == prompts_to_json(logs[index])
    assert not session.can_undo
    for index in steps:
        session.redo()
        assert np.array_equal(session.mask(), masks[index + 1])
        assert prompts_to_json(session.prompts) == prompts_to_json(logs[index + 1])
    assert not session.can_redo


def test_a_new_prompt_after_undo_drops_what_was_undone(session):
    session.add_point(CENTRE)
    session.undo()
    session.add_point((20, 20, 17))
    assert not session.can_redo
    with pytest.raises(PromptError):
        session.redo()


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.add_point((-1, 3, 3)),
        lambda s: s.add_point((48, 3, 3)),
        lambda s: s.add_point((3, 3, float("nan"))),
        lambda s: s.add_point((3, 3)),
        lambda s: s.add_box(VoxelBox((5, 5, 5), (5, 9, 9))),
        lambda s: s.add_box(VoxelBox((9, 9, 9), (5, 5, 5))),
        lambda s: s.add_box(VoxelBox((90, 90, 90), (95, 95, 95))),
        lambda s: s.add_scribble([]),
        lambda s: s.add_scribble([(3, 3, 3), (3, 3, 300)]),
        lambda s: s.add_lasso([(3, 3, 3), (9, 3, 3)]),
        lambda s: s.add_lasso([(3, 3, 3), (9, 3, 9), (9, 9, 20), (3, 9, 30)]),
        lambda s: s.set_mask(np.zeros((3, 3, 3))),
        lambda s: s.move_prompt(999, (3, 3, 3)),
        lambda s: s.move_prompt(s.prompts[0].id, (300, 3, 3)),
        lambda s: s.remove_prompt(999),
        lambda s: s.set_threshold(0.0),
        lambda s: s.set_threshold(1.5),
        lambda s: s.replay([ScribblePrompt(1, ())]),
        lambda s: s.replay([LassoPrompt(1, ((3.2, 3.2, 3.0), (3.4, 3.2, 3.0), (3.2, 3.4, 3.0)))]),
        lambda s: s.replay([LassoPrompt(1, ((90.0, 90.0, 3.0), (99.0, 90.0, 3.0), (99.0, 99.0, 3.0)))]),
    ],
)
def test_a_rejected_call_changes_nothing(session, call):
    session.add_point(CENTRE)
    session.add_point((30, 28, 17))
    session.undo()
    before, depth = state(session), undo_depth(session)
    with pytest.raises(PromptError) as caught:
        call(session)
    assert len(str(caught.value)) > 15
    assert state(session) == before
    assert undo_depth(session) == depth


def test_undo_and_redo_with_nothing_to_do_say_so(session):
    for call in (session.undo, session.redo):
        with pytest.raises(PromptError, match="nothing"):
            call()


def test_the_log_survives_json_and_replays_to_the_same_mask(session):
    prompt_all(session)
    session.set_mask(np.roll(session.mask(), 2, axis=0))
    session.add_point((20, 20, 20))
    text = prompts_to_json(session.prompts)
    assert json.loads(text)["format"].startswith("fastsam3d-prompts/")
    mask = session.mask()
    session.reset()
    assert not session.mask().any()
    session.replay(prompts_from_json(text))
    assert np.array_equal(session.mask(), mask)
    assert prompts_to_json(session.prompts) == text


def test_removing_a_prompt_is_the_same_as_never_having_given_it(session):
    session.add_point(CENTRE)
    session.add_point((3, 50, 3), False)
    session.add_point((29, 24, 17))
    session.remove_prompt(session.prompts[1].id)
    mask, log = session.mask(), session.prompts
    session.reset()
    session.replay(log)
    assert len(log) == 2
    assert np.array_equal(session.mask(), mask)


def test_moving_a_point_moves_it_in_the_log_and_reruns(session):
    session.add_point((3, 50, 3))
    session.add_point(CENTRE)
    session.move_prompt(session.prompts[0].id, (24, 24, 17))
    assert session.prompts[0].point_ijk == (24.0, 24.0, 17.0)
    assert session.mask()[3, 50, 3] == 0
    assert session.mask()[17, 24, 26] == 1


def test_a_hand_edit_is_continued_from(session):
    session.add_point(CENTRE)
    edited = session.mask()
    edited[30:34, 48:54, 2:8] = 1  # a second piece, painted by hand far from the ball
    update = session.set_mask(edited)
    assert np.array_equal(session.mask(), edited)
    assert update.box.contains((4, 50, 31))
    session.add_point((27, 25, 17))
    assert session.mask()[30:34, 48:54, 2:8].all()


def test_setting_the_same_mask_again_changes_no_voxel(session):
    session.add_point(CENTRE)
    assert session.set_mask(session.mask()).box.is_empty


def test_a_lower_threshold_only_grows_the_mask_and_half_restores_it(session):
    session.add_point(CENTRE)
    mask = session.mask()
    update = session.set_threshold(0.2)
    grown = session.mask()
    assert ((grown - mask) >= 0).all()
    merged = mask.copy()
    merged[update.box.slices_kji] = update.mask
    assert np.array_equal(merged, grown)
    session.set_threshold(0.5)
    assert np.array_equal(session.mask(), mask)


def test_a_box_limits_the_mask(session):
    session.add_box(VoxelBox((20, 12, 5), (39, 37, 30)))
    mask = session.mask()
    assert mask.any()
    assert not mask[:, :, :20].any()


def test_prompts_before_an_image_are_refused(make):
    with pytest.raises(ImageError):
        make().add_point((1, 1, 1))


@pytest.mark.parametrize("fill", [np.nan, np.inf, None])
def test_images_that_cannot_be_normalised_are_refused(session, fill):
    array = np.zeros((8, 8, 8), np.float32)
    if fill is not None:
        array[:] = np.arange(512).reshape(8, 8, 8)
        array[3, 3, 3] = fill
    with pytest.raises(ImageError):
        session.set_image(Volume(array))


def test_a_rejected_image_changes_nothing(session):
    session.add_point(CENTRE)
    session.add_point((30, 28, 17))
    session.undo()
    session.set_threshold(0.4)
    before, depth = state(session), undo_depth(session)
    with pytest.raises(ImageError):
        session.set_image(Volume(np.full((8, 8, 8), np.nan, np.float32)))
    assert state(session) == before
    assert undo_depth(session) == depth
    session.add_point((30, 28, 17))
    session.set_mask(np.roll(session.mask(), 2, axis=0))
    assert len(session.prompts) == 3


def test_a_new_image_starts_afresh(session):
    session.add_point(CENTRE)
    session.set_image(ball_scan(shape_ijk=(20, 20, 20), centre_ijk=(10, 10, 10), radius_mm=5)[0])
    assert session.mask().shape == (20, 20, 20)
    assert not session.mask().any()
    assert session.prompts == ()
    assert not session.can_undo
