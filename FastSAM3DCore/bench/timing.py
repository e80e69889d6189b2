"""Timing calls side by side, so that whatever else the machine does slows all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any

import torch

from ..cuda_graphs import capture_cuda_graph

__all__ = ["LONG_MS", "Timing", "compare", "device_ms", "measure", "run_once", "synchronise"]

# A first run above this is a measurement: warm-up does not show in it.
LONG_MS = 5000.0


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a call takes, in milliseconds.

    Attributes:
        median_ms: of all runs after warm-up.
        low_ms, high_ms: first and third quartile.
        runs: how many were timed.
        first_ms: the first call ever, not part of the others.
        cpu_ms: median of the processor time this process spent, on all its threads: what is left of a comparison on
            a machine that others keep busy.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    runs: int
    first_ms: float
    cpu_ms: float

    @classmethod
    def of(cls, samples_ms: list[float], first_ms: float, cpu_ms: list[float]) -> Timing:
        """Summarise samples; there must be at least one."""
        low, median, high = statistics.quantiles(samples_ms, n=4, method="inclusive") if len(samples_ms) > 1 else (
            samples_ms * 3
        )  # fmt: skip
        return cls(median, low, high, len(samples_ms), first_ms, statistics.median(cpu_ms))


def synchronise(device: torch.device) -> None:
    """Wait until a device has done all work that was given to it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def measure(call: Callable[[], Any], device: torch.device, *, seconds: float = 5.0, least: int = 3) -> Timing:
    """Time one call; see `compare`."""
    return compare({"": call}, device, seconds=seconds, least=least)[""]


def compare(
    calls: Mapping[str, Callable[[], Any]],
    device: torch.device,
    *,
    seconds: float = 20.0,
    least: int = 3,
    most: int = 100,
) -> dict[str, Timing]:
    """Time several calls in turn, one run of each per round.

    A call that has taken its share of the time and `least` runs sits out, so that a slow baseline does not keep fast
    calls from being run often.

    Args:
        calls: name -> call; inputs and state are the caller's.
        device: waited for before and after each run.
        seconds: time to spend on all of them, warm-up included.
        least: runs of each call that are timed whatever they take; one run of a call that takes more than its share
            of the time. A first run above LONG_MS is that one run: warm-up does not show in it.
        most: no call is timed more often.
    """
    first_runs = {name: run_once(call, device) for name, call in calls.items()}
    firsts = {name: elapsed for name, (elapsed, _) in first_runs.items()}
    samples = {name: [elapsed] if elapsed > LONG_MS else [] for name, elapsed in firsts.items()}
    processor = {name: [busy] if elapsed > LONG_MS else [] for name, (elapsed, busy) in first_runs.items()}
    spent = dict(firsts)
    share = 1000.0 * seconds / max(1, len(calls))
    active = {name for name in calls if not samples[name]}
    while active:
        for name, call in calls.items():
            if name not in active:
                continue
            elapsed, busy = run_once(call, device)
            samples[name].append(elapsed)
            processor[name].append(busy)
            spent[name] += elapsed
            count = len(samples[name])
            enough = least if firsts[name] < share else 1
            if count >= most or (count >= enough and spent[name] >= share):
                active.remove(name)
    return {name: Timing.of(samples[name], firsts[name], processor[name]) for name in calls}


def device_ms(call: Callable[[], Any], device: torch.device, *, seconds: float = 1.0, inside: int = 10) -> float:
    """Milliseconds a device works on one call, launching left out: what the call costs inside a recorded network.

    On CUDA a graph of `inside` calls is replayed and timed with events, the median is taken; elsewhere this is the
    median of `compare`.
    """
    if device.type != "cuda":
        return measure(call, device, seconds=seconds, least=1).median_ms
    with torch.cuda.device(device):
        recording = capture_cuda_graph(lambda: [call() for _ in range(inside)], (), {})
        samples: list[float] = []
        end_of_time = perf_counter() + seconds
        while len(samples) < 5 or (perf_counter() < end_of_time and len(samples) < 200):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            recording.replay()
            end.record()
            end.synchronize()
            samples.append(start.elapsed_time(end) / inside)
    return statistics.median(samples)


def run_once(call: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """One run: milliseconds on the clock, and of processor time on all threads."""
    synchronise(device)
    start, busy = perf_counter(), process_time()
    call()
    synchronise(device)
    return 1000.0 * (perf_counter() - start), 1000.0 * (process_time() - busy)
