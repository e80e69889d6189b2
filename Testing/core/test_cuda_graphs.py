"""The graph cache on a recorder that re-runs the function on its buffers: everything but the CUDA calls is real."""

from __future__ import annotations

import threading
from time import sleep
from typing import Any

import pytest
import torch
from torch import Tensor

from FastSAM3DCore.cuda_graphs import GraphedModule, pad_prompts
from FastSAM3DCore.device_model import DeviceModel
from FastSAM3DCore.fair_lock import FairLock
from FastSAM3DCore.host_staging import HostStaging
from FastSAM3DCore.modeling.hires import HiresConfig, build_hires

CPU = torch.device("cpu")


class Recorder:
    """Does what CUDA graphs do: fixed input and output memory, contents new at every replay."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.captures = 0
        self.replays = 0

    def __call__(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.captures += 1
        if self.error is not None:
            raise self.error
        recorder = self

        class Replay:
            outputs = function(*args, **kwargs)

            def replay(self) -> None:
                recorder.replays += 1
                for old, new in zip(flat(self.outputs), flat(function(*args, **kwargs)), strict=True):
                    old.copy_(new)

        return Replay()


def flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in flat(item)]
    return [leaf for item in value for leaf in flat(item)] if isinstance(value, (list, tuple)) else []


def decode(
    embedding: dict[str, Tensor], points: Tensor, mask: Tensor | None, scale: float = 1.0
) -> tuple[Tensor, Tensor]:
    total = embedding["a"].sum() * scale + points.sum()
    return (total if mask is None else total + mask.sum()).reshape(1), embedding["b"] * 2


def inputs(seed: int, points: int = 3) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"a": torch.rand(2, 3, generator=generator), "b": torch.rand(4, generator=generator)}, torch.rand(
        points, 3, generator=generator
    )


def test_a_shape_is_recorded_once_and_replayed_with_new_numbers() -> None:
    recorder = Recorder()
    graphed = GraphedModule(decode, CPU, capture=recorder)
    for seed in range(4):
        embedding, points = inputs(seed)
        for found, wanted in zip(graphed(embedding, points, None), decode(embedding, points, None), strict=True):
            torch.testing.assert_close(found, wanted)
    assert (recorder.captures, recorder.replays) == (1, 4)


def test_results_are_copies_that_later_calls_do_not_change() -> None:
    graphed = GraphedModule(decode, CPU, capture=Recorder())
    first = graphed(*inputs(0), None)
    kept = [t.clone() for t in first]
    graphed(*inputs(1), None)
    for before, after in zip(kept, first, strict=True):
        torch.testing.assert_close(before, after)


def test_inputs_are_left_alone_and_may_be_freed_or_changed() -> None:
    graphed = GraphedModule(decode, CPU, capture=Recorder())
    embedding, points = inputs(0)
    wanted = decode(embedding, points, None)[0].clone()
    found = graphed(embedding, points, None)[0]
    points.zero_()
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(graphed(*inputs(0), None)[0], wanted)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((*inputs(0, points=4), None), {}),
        ((*inputs(0), torch.ones(2)), {}),
        ((*inputs(0), None), {"scale": 2.0}),
        ((inputs(0)[0], inputs(0)[1].double(), None), {}),
    ],
    ids=["number of points", "mask or not", "plain value", "type"],
)
def test_whatever_changes_the_computation_is_recorded_anew(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    recorder = Recorder()
    graphed = GraphedModule(decode, CPU, capture=recorder)
    graphed(*inputs(0), None)
    torch.testing.assert_close(graphed(*args, **kwargs), decode(*args, **kwargs))
    assert recorder.captures == 2


def test_another_precision_is_another_recording() -> None:
    recorder = Recorder()
    graphed = GraphedModule(lambda a, b: a @ b, CPU, capture=recorder)
    a, b = torch.rand(2, 4, 4)
    assert graphed(a, b).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert graphed(a, b).dtype == torch.bfloat16
    assert graphed(a, b).dtype == torch.float32
    assert recorder.captures == 2


def test_the_number_of_recordings_is_bounded_and_the_least_recently_used_goes() -> None:
    recorder = Recorder()
    graphed = GraphedModule(decode, CPU, max_recordings=2, capture=recorder)
    for points in (1, 2, 1, 3, 1):
        graphed(*inputs(0, points), None)
    assert graphed.recordings == 2
    assert recorder.captures == 3  # 1 was used after 2, so 3 took the place of 2
    graphed(*inputs(0, 2), None)
    assert recorder.captures == 4


def test_a_call_that_cannot_be_recorded_runs_eagerly_and_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(RuntimeError("operation not permitted when stream is capturing\nmore"))
    graphed = GraphedModule(decode, CPU, capture=recorder)
    for seed in (0, 1):
        torch.testing.assert_close(graphed(*inputs(seed), None), decode(*inputs(seed), None))
    assert recorder.captures == 1
    assert "operation not permitted when stream is capturing" in caplog.text
    assert "more" not in caplog.text


def test_too_little_memory_for_a_recording_drops_the_others_and_runs_eagerly(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    graphed = GraphedModule(decode, CPU, capture=recorder)
    graphed(*inputs(0), None)
    recorder.error = torch.OutOfMemoryError("CUDA out of memory")
    torch.testing.assert_close(graphed(*inputs(0, 5), None), decode(*inputs(0, 5), None))
    assert graphed.recordings == 0
    recorder.error = None
    graphed(*inputs(0, 5), None)
    assert graphed.recordings == 1  # unlike other failures this one passes, so it is tried again
    assert "Too little memory" in caplog.text


def test_an_error_of_the_call_itself_reaches_the_caller() -> None:
    def fails(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        GraphedModule(fails, CPU, capture=Recorder())(torch.ones(1))


def test_without_a_cuda_device_calls_just_run() -> None:
    graphed = GraphedModule(decode, CPU)
    torch.testing.assert_close(graphed(*inputs(0), None), decode(*inputs(0), None))
    assert graphed.recordings == 0


def test_threads_that_share_a_recording_get_their_own_results() -> None:
    graphed = GraphedModule(lambda x: x * 2, CPU, capture=Recorder())
    wrong: list[int] = []

    def work(value: int) -> None:
        for _ in range(50):
            if not bool((graphed(torch.full((64,), float(value))) == 2 * value).all()):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_threads_that_wait_are_served_in_the_order_they_came() -> None:
    lock, order = FairLock(), []

    def work(number: int) -> None:
        with lock:
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    with lock:
        for count, thread in enumerate(threads, start=1):
            thread.start()
            while lock.waiting < count:
                sleep(0.001)
        # The holder asks again at once, as a session that clicks without a pause does.
        again = threading.Thread(target=work, args=(99,))
        again.start()
        while lock.waiting < 6:
            sleep(0.001)
    for thread in (*threads, again):
        thread.join()
    assert order == [0, 1, 2, 3, 4, 99]
    with lock:
        assert lock.waiting == 0


def test_a_lock_is_handed_on_after_an_error() -> None:
    lock = FairLock()
    with pytest.raises(ValueError, match="inside"), lock:
        raise ValueError("inside")
    with lock:
        assert lock.waiting == 0


def test_clearing_gives_recordings_back() -> None:
    graphed = GraphedModule(decode, CPU, capture=Recorder())
    graphed(*inputs(0), None)
    graphed.clear()
    assert graphed.recordings == 0


@pytest.mark.parametrize(("points", "padded"), [(0, 8), (1, 8), (8, 8), (9, 16)])
def test_prompts_are_padded_with_points_that_are_none(points: int, padded: int) -> None:
    coords, labels = pad_prompts(torch.rand(2, points, 3), torch.ones(2, points, dtype=torch.int64))
    assert coords.shape == (2, padded, 3)
    assert labels.shape == (2, padded)
    assert bool((labels[:, points:] == -1).all())
    assert bool((labels[:, :points] == 1).all())


def test_the_projects_network_ignores_padded_points_so_that_one_recording_serves_many_clicks() -> None:
    torch.manual_seed(0)
    network = build_hires(HiresConfig(stem=8, middle=16, width=32, heads=2, depth=3, embedding=4, decoder=(8, 16, 32)))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    recorder = Recorder()
    model = DeviceModel(network.eval(), torch.device("meta"), prompt_multiple=8, capture=recorder)
    # Where the recorder records is the CPU; "meta" only says that this is a device that can be recorded.
    for part in (model._encode, model._decode):
        part._device = CPU
    embedding = model.encode(torch.rand(1, 1, 32, 32, 32))
    for count in (1, 2, 5):
        points, labels = 32 * torch.rand(1, count, 3), torch.arange(count)[None] % 2
        found = model.decode(embedding, points, labels, None)
        with torch.inference_mode():
            wanted = network.decode(embedding, points, labels, None)
        for mine, right in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine, right)
    assert recorder.captures == 2  # one of encode, one of decode


def test_staged_copies_hold_the_numbers_and_belong_to_the_caller() -> None:
    staging = HostStaging(CPU, max_buffers=2)
    for size in (3, 5, 7, 3):
        source = torch.rand(size)
        there = staging.to_device(source)
        back = staging.to_host(there)
        torch.testing.assert_close(back, source)
        staging.to_host(torch.zeros(size))
        torch.testing.assert_close(back, source)
