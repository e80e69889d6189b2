"""Parts of the browser app that need no page: the runner, strokes, surfaces, doubt, autosave."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from FastSAM3DCore.errors import CancelledError, PromptError
from FastSAM3DCore.types import VoxelBox
from FastSAM3DWeb.autosave import STATE_FILE, read_saved
from FastSAM3DWeb.handedit import stroke_mask
from FastSAM3DWeb.loading import default_name
from FastSAM3DWeb.overlay import entropy
from FastSAM3DWeb.runner import Runner
from FastSAM3DWeb.segments import volume_text
from FastSAM3DWeb.surface import mesh
from FastSAM3DWeb.tools import ACTIONS, TOOLS, shortcuts
from Testing.web.running import run_async


@dataclass
class FakeJob:
    """A job that notes where its parts ran."""

    call: Any
    applied: Any = None
    dropped: bool = False

    def apply(self, answer: Any) -> Any:
        self.applied = (answer, threading.current_thread().name)
        return answer

    def drop(self) -> None:
        self.dropped = True


def test_jobs_run_on_one_thread_in_order_and_are_applied_on_the_loop() -> None:
    async def go() -> list[Any]:
        runner = Runner()
        here = threading.current_thread().name
        jobs = [FakeJob(lambda n=n: (n, threading.current_thread().name)) for n in range(4)]
        await asyncio.gather(*(runner.job(lambda j=j: j) for j in jobs))
        runner.close()
        assert all(j.applied[1] == here for j in jobs)
        return [j.applied[0] for j in jobs]

    answers = run_async(go())
    assert [n for n, _ in answers] == [0, 1, 2, 3]
    assert len({thread for _, thread in answers}) == 1
    assert threading.current_thread().name not in {thread for _, thread in answers}


def test_the_loop_stays_live_while_a_job_runs() -> None:
    async def go() -> int:
        runner = Runner()
        ticks = 0
        job = asyncio.create_task(runner.job(lambda: FakeJob(lambda: time.sleep(0.3))))
        while not job.done():
            ticks += 1
            await asyncio.sleep(0.01)
        runner.close()
        return ticks

    assert run_async(go()) > 5


def test_cancelling_drops_the_running_answer_and_those_that_wait() -> None:
    async def go() -> tuple[FakeJob, FakeJob, list[Any]]:
        runner = Runner()
        started = threading.Event()
        first = FakeJob(lambda: (started.set(), time.sleep(0.2)))
        second = FakeJob(lambda: 2)
        tasks = [asyncio.create_task(runner.job(lambda: first)), asyncio.create_task(runner.job(lambda: second))]
        while not started.is_set():
            await asyncio.sleep(0.005)
        runner.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        runner.close()
        return first, second, results

    first, second, results = run_async(go())
    assert all(isinstance(result, CancelledError) for result in results)
    assert first.dropped
    assert first.applied is None
    assert second.applied is None


def test_quiet_work_waits_for_nobody_and_gives_way() -> None:
    async def go() -> list[bool]:
        runner = Runner()
        taken = [runner.quietly(lambda: time.sleep(0.05)), runner.quietly(lambda: None)]
        _, timing = await runner.job(lambda: FakeJob(lambda: 1))
        assert timing.engine >= 0
        taken.append(runner.quietly(lambda: None))
        await runner.call(lambda: None)
        runner.close()
        return taken

    assert run_async(go()) == [True, False, True]


def test_an_error_in_a_job_frees_the_turn() -> None:
    async def go() -> Any:
        runner = Runner()

        def refuse() -> None:
            raise PromptError("no")

        with pytest.raises(PromptError):
            await runner.job(lambda: FakeJob(refuse))
        update, _ = await runner.job(lambda: FakeJob(lambda: "next"))
        runner.close()
        return update

    assert run_async(go()) == "next"


def test_a_stroke_covers_its_length_and_width_in_millimetres() -> None:
    affine = np.diag([2.0, 1.0, 3.0, 1.0])
    box = VoxelBox((0, 0, 0), (40, 40, 3))
    points = np.array([[20.0, 20.0, 3.0], [60.0, 20.0, 3.0]])
    mask = stroke_mask(points, affine, box, radius_mm=2.5)
    assert mask.shape == (3, 40, 40)
    assert not mask[0].any()
    assert not mask[2].any()
    rows, columns = np.nonzero(mask[1])
    assert (columns.min(), columns.max()) == (9, 31)
    assert (rows.min(), rows.max()) == (18, 22)
    assert mask[1, 20, 10:31].all()


def test_a_single_point_paints_a_disc() -> None:
    mask = stroke_mask(np.array([[5.0, 5.0, 0.0]]), np.eye(4), VoxelBox((0, 0, 0), (11, 11, 1)), radius_mm=3.0)
    assert mask.sum() == 29  # lattice points within 3 of the centre


def test_a_surface_lies_around_its_mask_in_world_coordinates() -> None:
    k, j, i = np.ogrid[:40, :40, :40]
    mask = (i - 20) ** 2 + (j - 20) ** 2 + (k - 20) ** 2 <= 15**2
    to_world = np.diag([2.0, 2.0, 2.0, 1.0])
    to_world[:3, 3] = [100.0, -50.0, 7.0]
    surface = mesh(mask, to_world)
    bounds = np.array(surface.GetBounds()).reshape(3, 2)
    assert np.allclose(bounds.mean(axis=1), [140.0, -10.0, 47.0], atol=1.0)
    assert np.allclose(np.ptp(bounds, axis=1), 60.0, atol=4.0)


def test_large_masks_get_surfaces_of_bounded_size() -> None:
    mask = np.zeros((300, 300, 300), bool)
    mask[20:280, 20:280, 20:280] = True
    assert 1000 < mesh(mask, np.eye(4)).GetNumberOfPoints() < 80_000


def test_doubt_is_one_bit_at_even_odds_and_none_when_sure() -> None:
    doubt = entropy(np.array([0.0, 0.5, 1.0, 0.11]))
    assert np.allclose(doubt, [0, 1, 0, 0.5], atol=2e-3)


def test_volumes_are_written_with_digits_that_make_sense() -> None:
    assert [volume_text(v) for v in (0.0, 0.123, 9.876, 1234.5)] == ["", "0.12 ml", "9.88 ml", "1234 ml"]


def test_no_key_is_used_twice() -> None:
    keys = [entry.key for entry in (*TOOLS, *ACTIONS)]
    assert len(keys) == len(set(keys))
    assert set(keys) <= set(shortcuts())


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/head.nii.gz", "head"), ("a/b.seg.nrrd", "b"), ("case_7/image.nii.gz", "case_7"), ("x/t1.mha", "t1")],
)
def test_scans_are_named_after_what_tells_them_apart(tmp_path: Path, path: str, name: str) -> None:
    file = tmp_path / path
    file.parent.mkdir()
    file.write_bytes(b"")
    assert default_name(file) == name


@pytest.mark.parametrize("text", ["", "{", "[]", '{"scan": null}', '{"scan": null, "name": "x", "format": "other/9"}'])
def test_a_damaged_autosave_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE_FILE).write_text(text)
    assert read_saved(tmp_path) is None


def test_an_autosave_whose_scan_is_gone_is_ignored(tmp_path: Path) -> None:
    state = {"scan": str(tmp_path / "gone.nii"), "name": "gone"}
    (tmp_path / STATE_FILE).write_text(json.dumps(state))
    assert read_saved(tmp_path) is None
    (tmp_path / "gone.nii").write_text("back")
    assert read_saved(tmp_path).name == "gone"
