"""What `fastsam3d bench` shows of a report: a chart, lines of text, tables in a document."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from FastSAM3DCore.bench.chart import draw_chart, encode_rows, time_words
from FastSAM3DCore.bench.growth_chart import draw_growth_chart
from FastSAM3DCore.bench.markdown import BENCH, bench_markdown, growth_markdown, insert_markdown
from FastSAM3DCore.bench.words import growth_summary, mb, ms, summary
from FastSAM3DCore.cli import main
from FastSAM3DCore.errors import OutputError
from Testing.core.bench_reports import MACHINE, bench_report, growth_report


def test_charts_of_partial_figures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="charts need fastsam3d[plot]")
    draw_chart(bench_report(), tmp_path / "bench.png")
    draw_growth_chart(growth_report(), tmp_path / "growth.png")
    for name in ("bench.png", "growth.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / name).stat().st_size > 20_000


def test_an_extrapolated_figure_says_so_wherever_it_is_shown() -> None:
    report = bench_report()
    assert "extrapolated from 2" in summary(report)
    assert "(extrapolated from 2)" in bench_markdown(report)
    assert "2 of 128 slices timed" in encode_rows(report)[-1][0]
    measured = copy.deepcopy(report)
    measured["encode"] |= {"sam2d_slices_timed": 128, "sam2d_extrapolated": False}
    assert "extrapolated" not in summary(measured) + bench_markdown(measured)


def test_what_was_not_measured_is_not_a_figure() -> None:
    text = bench_markdown(bench_report())
    assert "| the same, plain code | not measured | not measured | not measured / not measured |" in text
    assert "encode, plain code           -    (not measured)" in summary(bench_report())


def test_tables_name_machine_and_date() -> None:
    for text in (bench_markdown(bench_report()), growth_markdown(growth_report())):
        assert text.startswith("cpu: Some Processor, 2 threads, float32, torch 2.6, fastsam3d 0.1, 2026-01-01.")


def test_a_run_on_a_busy_machine_warns() -> None:
    busy = bench_report(machine={**MACHINE, "busy_cores_before": 1.7})
    for text in (summary(busy), bench_markdown(busy)):
        assert "Other programs kept 1.7 cores busy" in text
    assert "Other programs" not in summary(bench_report())


def test_growth_is_told_with_its_powers_and_what_is_missing() -> None:
    text = growth_summary(growth_report())
    assert "volumes, first_click, processor time: power 1.60, 1.90 at the end: worse than linear" in text
    assert "volumes, memory_mb: power 0.90, 1.00 at the end: linear or better" in text
    assert "segments: not measured, it needs a source checkout" in text
    assert "needs 8,192 MB, 4,000 MB are free" in text
    assert "| first click by voxels | 210 ms at 2,097,152 | 5.66 s at 56,623,104 | 1.60 | 1.90 |" in growth_markdown(
        growth_report()
    )


@pytest.mark.parametrize(
    ("value", "words"), [(0.1234, "0.123 ms"), (999.7, "1 s"), (12_340.0, "12.3 s"), (600_000.0, "10 min")]
)
def test_times_are_written_with_the_unit_that_fits(value: float, words: str) -> None:
    assert time_words(value) == words


def test_figures_have_no_exponents_and_small_ones_are_not_nothing() -> None:
    assert [ms(value).strip() for value in (999.7, 1234.0, None)] == ["1,000 ms", "1,234 ms", "-"]
    assert [mb(value) for value in (0.41, 9.97, 4317.0)] == ["0.41 MB", "10 MB", "4,317 MB"]


def test_tables_go_between_the_marks_of_a_document_and_nothing_else_changes(tmp_path: Path) -> None:
    path = tmp_path / "speed.md"
    insert_markdown(path, BENCH, "| a |")
    assert path.read_text() == f"<!-- begin: {BENCH} -->\n| a |\n<!-- end: {BENCH} -->\n"
    path.write_text("# Speed\n" + path.read_text() + "after\n")
    insert_markdown(path, BENCH, "| b |")
    assert path.read_text() == f"# Speed\n<!-- begin: {BENCH} -->\n| b |\n<!-- end: {BENCH} -->\nafter\n"
    path.write_text("no marks")
    with pytest.raises(OutputError, match="add them where the table is to go"):
        insert_markdown(path, BENCH, "| c |")
    assert path.read_text() == "no marks"


def test_a_report_is_shown_again_without_measuring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, report, word in (("a", bench_report(), "encode, student"), ("b", growth_report(), "WORSE THAN LINEAR")):
        (tmp_path / f"{name}.json").write_text(json.dumps(report))
        out = tmp_path / f"{name}.md"
        assert main(["bench", "--from", str(tmp_path / f"{name}.json"), "--markdown", str(out)]) == 0
        assert word in capsys.readouterr().out
        assert "Some Processor" in out.read_text()


@pytest.mark.parametrize("text", [None, "not json", "[]", '{"machine": {}}'])
def test_something_else_than_a_report_is_refused_in_one_line(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    if text is not None:
        path.write_text(text)
    assert main(["bench", "--from", str(path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
