"""Checkpoints in small files: sizes, crashes at every moment, damage, files of earlier versions; and slots of time."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
import torch

from FastSAM3DCore.errors import WeightsError
from FastSAM3DCore.modeling.hires import load_hires
from FastSAM3DCore.training.checkpoint import PART_BYTES, load_checkpoint, save_checkpoint
from FastSAM3DCore.training.distill import load_teacher
from FastSAM3DCore.training.loop import Trainer
from FastSAM3DCore.training.schedule import Slot
from Testing.core.tiny_training import losses, tiny_config

pytestmark = pytest.mark.usefixtures("one_thread")

FLOATS = 5_000_000  # 20 MB: two parts


def state(seed: int, floats: int = FLOATS) -> dict[str, object]:
    values = torch.rand(floats, generator=torch.Generator().manual_seed(seed))
    return {"values": values, "step": seed, "nested": {"shape": (1, 2, 3), "rate": 0.1}}


def same(one: dict[str, object], two: dict[str, object]) -> bool:
    return torch.equal(one["values"], two["values"]) and all(one[key] == two[key] for key in ("step", "nested"))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class CrashError(Exception):
    """The process is gone."""


def crash_at(patch: pytest.MonkeyPatch, moment: int) -> None:
    """Let the process die when it flushes something to disk for the `moment`-th time."""
    flushes = iter(range(moment + 1))
    real = os.fsync

    def dying(handle: int) -> None:
        if next(flushes) == moment:
            raise CrashError
        real(handle)

    patch.setattr(os, "fsync", dying)


def test_a_checkpoint_is_files_of_sixteen_megabytes_at_most_and_comes_back_to_the_digit(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state(1))
    assert all(part.stat().st_size <= PART_BYTES <= 16e6 for part in tmp_path.iterdir())
    assert len(files(tmp_path)) == 3
    assert same(load_checkpoint(path), state(1))


def test_the_next_checkpoint_removes_the_parts_of_the_last_and_leaves_other_files_alone(tmp_path):
    path = tmp_path / "checkpoint.pt"
    bystanders = ["checkpoint.pt.old", "checkpoint.pt.1.notes", "checkpoint.pt2", "weights.safetensors"]
    for name in bystanders:
        (tmp_path / name).write_text("mine")
    save_checkpoint(path, state(1))
    save_checkpoint(path, state(2, 100))
    assert same(load_checkpoint(path), state(2, 100))
    assert files(tmp_path) == sorted([*bystanders, "checkpoint.pt", "checkpoint.pt.2.0"])


@pytest.mark.parametrize("moment", range(4), ids=["in part 0", "in part 1", "in the index", "after the index"])
def test_a_crash_leaves_the_last_checkpoint_or_the_new_one_and_the_next_save_cleans_up(tmp_path, moment):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state(1))
    with pytest.MonkeyPatch.context() as patch:
        crash_at(patch, moment)
        with pytest.raises(CrashError):
            save_checkpoint(path, state(2))
    assert same(load_checkpoint(path), state(2 if moment == 3 else 1))
    save_checkpoint(path, state(3, 100))
    assert same(load_checkpoint(path), state(3, 100))
    assert len(files(tmp_path)) == 2


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state(1, 100))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, state(2, 100))
    assert same(load_checkpoint(path), state(1, 100))


def test_a_part_that_is_missing_cut_or_changed_is_named(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state(1))
    part = tmp_path / "checkpoint.pt.1.1"
    whole = part.read_bytes()
    for content in (whole[:-1], whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]):
        part.write_bytes(content)
        with pytest.raises(WeightsError, match=r"checkpoint\.pt\.1\.1 is damaged.*start afresh"):
            load_checkpoint(path)
    part.unlink()
    with pytest.raises(WeightsError, match=r"checkpoint\.pt\.1\.1 is missing.*put back"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"parts": [1]}', b"nonsense", b"PK\x03\x04"])
def test_an_index_that_is_no_index_is_one_clear_error(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(WeightsError, match="cannot read checkpoint"):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", {"harmful": Path("/")})
    with pytest.raises(WeightsError):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_an_index_cannot_name_files_of_other_folders(tmp_path):
    (tmp_path / "in").mkdir()
    save_checkpoint(tmp_path / "checkpoint.pt", state(1, 10))
    index = (tmp_path / "checkpoint.pt").read_text().replace('"checkpoint.pt.1.0"', '"../checkpoint.pt.1.0"')
    (tmp_path / "in" / "checkpoint.pt").write_text(index)
    with pytest.raises(WeightsError, match="missing"):
        load_checkpoint(tmp_path / "in" / "checkpoint.pt")


def test_a_checkpoint_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state(1))
    real = Path.exists

    def overtaken(self: Path) -> bool:
        if self.name == "checkpoint.pt.1.1":
            save_checkpoint(path, state(2))
        return real(self)

    monkeypatch.setattr(Path, "exists", overtaken)
    assert same(load_checkpoint(path), state(2))


def test_a_single_file_of_earlier_versions_resumes_and_teaches_and_is_replaced(tmp_path):
    for name in ("whole", "old"):
        Trainer(tiny_config(tmp_path / name, steps=6), "cpu").run(stop_at=None if name == "whole" else 3)
    path = tmp_path / "old" / "checkpoint.pt"
    torch.save(load_checkpoint(path), path)  # as they wrote it
    for part in path.parent.glob("checkpoint.pt.*"):
        part.unlink()
    average = load_hires(tmp_path / "old" / "weights.safetensors").state_dict()
    taught = load_teacher(path).state_dict()
    again = Trainer(tiny_config(tmp_path / "old", steps=6), "cpu")
    assert again.resume()
    assert again.step == 3
    again.run()
    assert losses(tmp_path / "old") == losses(tmp_path / "whole")
    assert path.read_bytes().startswith(b"{")
    assert all(torch.allclose(taught[key], average[key], atol=1e-2) for key in average)
    assert not all(torch.equal(taught[key], load_teacher(path).state_dict()[key]) for key in average)


# -- slots ------------------------------------------------------------------------------------------------------------
def test_two_slots_give_the_digits_of_one_uninterrupted_run(tmp_path):
    Trainer(tiny_config(tmp_path / "whole", steps=12), "cpu").run()
    first = Trainer(tiny_config(tmp_path / "slots", steps=12), "cpu")
    first.run(slot=Slot(time.time(), 1e-9))  # over at once, but for the one step that each slot takes
    assert first.step == 1
    second = Trainer(tiny_config(tmp_path / "slots", steps=12), "cpu")
    second.resume()
    second.run(slot=Slot(time.time(), 60.0))
    assert second.step == 12
    assert losses(tmp_path / "slots") == losses(tmp_path / "whole")
    one, two = (load_hires(tmp_path / name / "weights.safetensors").state_dict() for name in ("whole", "slots"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_slot_ends_before_its_time_by_the_longest_step_and_a_twentieth():
    slot = Slot(began=1000.0, minutes=10.0)  # training may take until 1570
    assert not slot.over(1000.0)
    assert not slot.over(1100.0)  # a step of 100 s
    for now in (1200.0, 1300.0, 1400.0, 1465.0):
        assert not slot.over(now)
    assert slot.over(1475.0)  # another step of 100 s would end at 1575


def test_a_slot_that_began_too_early_still_takes_one_step():
    slot = Slot(began=0.0, minutes=1.0)
    assert not slot.over(1000.0)
    assert slot.over(1001.0)


def test_rows_of_earlier_slots_are_on_disk_before_the_next_step(tmp_path):
    Trainer(tiny_config(tmp_path, steps=6), "cpu").run(stop_at=3)
    again = Trainer(tiny_config(tmp_path, steps=6), "cpu")
    again.resume()

    def killed(*_: object) -> None:
        raise CrashError

    again._one_step = killed
    with pytest.raises(CrashError):
        again.run()
    assert [step for step, _ in losses(tmp_path)] == ["0", "1", "2"]
