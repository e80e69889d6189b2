"""Evaluation over many cases: in one process or several, saved after each case, resumable."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..errors import FastSAM3DError, ImageError
from ..io.atomic import write_text
from ..protocol import SegmentationSession
from .baselines import BASELINES
from .cases import Case, group_of
from .challenge import score_challenge
from .environment import describe_environment
from .scoring import SessionMethod, score_structure
from .summary import summarise

__all__ = ["NO_MODEL", "Settings", "evaluate_cases", "load_finished"]

NO_MODEL = "none"

SessionFactory = Callable[[str, str], SegmentationSession]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is evaluated, and how; results are comparable when these are equal.

    Attributes:
        model: model name or weights file; "none" for the baselines alone.
        device: as for `open_session`.
        clicks: at which numbers of clicks to score.
        protocol: "clicks", or "cvpr2025" (a box, then five clicks).
        baseline: also score the baselines.
        max_structures: of each case at most this many structures.
    """

    model: str = "default"
    device: str = "auto"
    clicks: tuple[int, ...] = (1, 3, 5, 10)
    protocol: str = "clicks"
    baseline: bool = True
    max_structures: int | None = None


# A case's rows by method: "model" and the names of the baselines.
Rows = dict[str, list[dict[str, Any]]]


def evaluate_case(case: Case, settings: Settings, session: SegmentationSession | None) -> Rows:
    """Score every structure of a case.

    Raises:
        ImageError: the case cannot be read.
    """
    volume, labels = case.load()
    rows: Rows = {}
    for structure in case.structures(labels, settings.max_structures):
        truth = labels == structure.label
        about = {
            "case": case.name,
            "group": group_of(case.name),
            "structure": structure.name,
            "label": structure.label,
            "voxels": structure.voxels,
        }
        if session is not None:
            method = SessionMethod(session, volume)
            if settings.protocol == "cvpr2025":
                scores = score_challenge(method, truth, volume.spacing_ijk)
            else:
                scores = score_structure(method, truth, volume.spacing_ijk, settings.clicks)
            rows.setdefault("model", []).append(about | scores)
        if settings.baseline and settings.protocol == "clicks":
            for name, baseline in BASELINES.items():
                scores = score_structure(baseline(volume), truth, volume.spacing_ijk, settings.clicks)
                rows.setdefault(name, []).append(about | scores)
    return rows


def evaluate_cases(
    cases: list[Case],
    settings: Settings,
    session_factory: SessionFactory,
    *,
    jobs: int = 1,
    output: Path | None = None,
    finished: dict[str, Any] | None = None,
    on_case: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Score cases and keep the results file up to date.

    Args:
        cases: what to score.
        settings: how.
        session_factory: (model, device) -> session; called once per process.
        jobs: processes; each holds its own model.
        output: JSON file, replaced atomically after each case.
        finished: results to go on from, by `load_finished`.
        on_case: called with the name of each case when it is done.

    Returns:
        The results as written to `output`.
    """
    rows: Rows = _rows_of(finished) if finished else {}
    done: list[str] = list(finished["finished_cases"]) if finished else []
    todo = [case for case in cases if case.name not in done]
    environment = describe_environment(None if settings.model == NO_MODEL else settings.device)
    results = _results(settings, rows, done, environment)
    for name, found in _scored(todo, settings, session_factory, jobs):
        for method, new in found.items():
            rows.setdefault(method, []).extend(new)
        done.append(name)
        results = _results(settings, rows, done, environment)
        if output is not None:
            write_text(output, json.dumps(results, indent=1) + "\n")
        on_case(name)
    return results


def _scored(
    cases: list[Case], settings: Settings, session_factory: SessionFactory, jobs: int
) -> Iterator[tuple[str, Rows]]:
    if jobs <= 1:
        session = None if settings.model == NO_MODEL else session_factory(settings.model, settings.device)
        try:
            for case in cases:
                yield case.name, evaluate_case(case, settings, session)
        finally:
            if session is not None:
                session.close()
        return
    # Spawned, not forked: torch and ITK hold threads and locks that do not survive a fork.
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_start_worker, initargs=(settings, session_factory, jobs)
    ) as pool:
        futures = {pool.submit(_work, case, settings): case for case in cases}
        try:
            for future in as_completed(futures):
                yield futures[future].name, future.result()
        except BrokenProcessPool as error:
            raise FastSAM3DError("A worker process died, most likely for lack of memory; use fewer --jobs.") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_worker_session: SegmentationSession | None = None
_worker_error: FastSAM3DError | None = None


def _start_worker(settings: Settings, session_factory: SessionFactory, jobs: int) -> None:
    global _worker_error, _worker_session
    # Ctrl+C reaches every process of the terminal; only the first one should say so.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    if settings.model == NO_MODEL:
        return
    try:
        _worker_session = session_factory(settings.model, settings.device)
    except FastSAM3DError as error:  # raised by the first case: the pool would print a traceback for this one
        _worker_error = error
    if "torch" in sys.modules:  # the factory's choice; nothing else here needs it
        sys.modules["torch"].set_num_threads(threads)


def _work(case: Case, settings: Settings) -> Rows:
    if _worker_error is not None:
        raise _worker_error
    return evaluate_case(case, settings, _worker_session)


def load_finished(path: Path, settings: Settings) -> dict[str, Any] | None:
    """Results of an earlier run to go on from; None if there are none.

    Raises:
        ImageError: the file is damaged, or was made with other settings.
    """
    if not path.is_file():
        return None
    try:
        results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        same = results["settings"] == json.loads(json.dumps(asdict(settings)))
        complete = {"cases", "finished_cases", "baseline"} <= results.keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(f"{path} is not a results file of this command; choose another --json.") from error
    if not same or not complete:
        raise ImageError(f"{path} was made with other settings; repeat them, or choose another --json.")
    return results


def _rows_of(results: dict[str, Any]) -> Rows:
    rows = {name: list(part["cases"]) for name, part in (results["baseline"] or {}).items()}
    if results["cases"]:
        rows["model"] = list(results["cases"])
    return rows


def _results(settings: Settings, rows: Rows, done: list[str], environment: dict[str, Any]) -> dict[str, Any]:
    def ordered(method: str) -> list[dict[str, Any]]:
        return sorted(rows.get(method, []), key=lambda row: (row["case"], row["label"]))

    baseline = {name: {"cases": ordered(name)} | summarise(ordered(name)) for name in BASELINES if name in rows}
    return {
        "model": settings.model,
        "cases": ordered("model"),
        **summarise(ordered("model")),
        "baseline": baseline or None,
        "settings": json.loads(json.dumps(asdict(settings))),
        "finished_cases": sorted(done),
        "environment": environment,
    }
