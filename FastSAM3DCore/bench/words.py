"""The reports in words: what the command prints."""

from __future__ import annotations

from typing import Any

__all__ = ["growth_summary", "ms", "summary", "times"]


def summary(report: dict[str, Any]) -> str:
    """The figures of `run_bench` that a person asks for first, one per line."""
    encode, click, whole, ratios = report["encode"], report["click"], report["end_to_end"], report["ratios"]
    own, floors, memory = report["default"]["own_crop"], report["floors"], report["memory"]
    scan = "x".join(str(n) for n in whole["scan"])
    sam = f"2D SAM, {encode['sam2d_slices']} slices"
    rough = f", extrapolated from {encode['sam2d_slices_timed']}" if encode["sam2d_extrapolated"] else ""
    lines = [
        f"{report['device']}, {report['threads']} threads, {report['precision']}, torch {report['machine']['torch']}",
        f"encode, student      {ms(encode['ours_ms'])} (floor {bare(floors['student']['encode_ms'])})",
        f"encode, plain code   {ms(encode['plain_ms'])} ({times(ratios['encode_vs_plain'])})",
        f"encode, default      {ms(report['default']['encode_ms'])}",
        f"teacher, published   {ms(encode['teacher_published_ms'])} ({times(ratios['encode_vs_teacher_published'])})",
        f"{sam:20} {ms(encode['sam2d_slices_ms'])} ({times(ratios['encode_vs_sam2d_slices'])}{rough})",
        f"click, student       {ms(click['ours_ms'])} (floor {bare(floors['student']['click_ms'])})",
        f"click, plain code    {ms(click['plain_ms'])} ({times(ratios['click_vs_plain'])})",
        f"click, default       {ms(report['default']['click_ms'])}",
        f"default, own {own['size']}^3    {ms(own['encode_ms'])} encode, {bare(own['click_ms'])} click",
        f"scan of {scan}: first click {bare(whole['first_click_ms'])}, warm {bare(whole['warm_click_ms'])}",
        f"second click         {ms(whole['second_click_ms'])}",
        f"first click again    {ms(whole['first_click_again_ms'])}",
        f"the same, prefetched {ms(whole['first_click_prefetched_ms'])}",
        "warm click: " + ", ".join(f"{stage} {bare(value)}" for stage, value in whole["split_ms"].items()),
        f"model load           {ms(report['model_load']['load_ms']['median'])}",
        *(
            f"batches of {row['batch']}, {name} on {row['crop']}^3: {row['crops_per_second']:.3g} crops per second"
            for name, row in report["throughput"].items()
        ),
        f"memory               {mb(memory['peak_mb'])}, of which imports {mb(memory['of_which_imports_mb'])}",
    ]
    lines += [
        f"attention, {row['tokens']:>7,} tokens   sparse {ms(row['sparse_ms'])}   dense {ms(row['dense_ms'])}"
        for row in report["attention"]
    ]
    agreement = report["agreement"]
    lines.append(f"against float32: Dice {agreement['dice']:.4f}, largest difference {agreement['max_abs']:.2g}")
    if not report["default"]["trained_weights"]:
        lines.append("The default network's weights are missing here; it was timed with random ones.")
    return "\n".join([*lines, *busy_note(report), f"{report['seconds']['all']:.0f} s"])


def busy_note(report: dict[str, Any]) -> list[str]:
    """A warning if other programs kept the machine busy when the run began."""
    busy = report["machine"]["busy_cores_before"]
    if busy is None or busy <= 0.5:
        return []
    return [f"Other programs kept {busy:.1f} cores busy: the times are too long, only ratios within this run count."]


def growth_summary(report: dict[str, Any]) -> str:
    """What `run_growth` found: one line per size, then the fitted powers."""
    lines = [f"{report['device']}, {report['threads']} threads, {report['precision']}"]
    lines += [
        f"scan {'x'.join(map(str, row['scan'])):>15}: open {bare(row['set_image_ms'])}, "
        f"first click {bare(row['first_click_ms'])}, next {bare(row['warm_click_ms'])}, "
        f"{mb(row['memory_mb'])}" + (f" ({row['not_measured']})" if row["not_measured"] else "")
        for row in report["volumes"]["rows"]
    ]
    lines += [
        f"{row['clicks']:>4} clicks: {bare(row['together_ms'])} together, lately {bare(row['latest_ms'])} each, "
        f"{mb(row['memory_mb'])}"
        for row in report["clicks"]["rows"]
    ]
    lines += [
        f"{row['segments']:>4} segments: {bare(row['together_ms'])} together, a click {bare(row['click_ms'])}, "
        f"switching {bare(row['switch_ms'])}, {mb(row['memory_mb'])}"
        for row in report["segments"]["rows"]
    ]
    for part in ("volumes", "clicks", "segments"):
        if not report[part]["rows"]:
            lines.append(f"{part}: not measured, {report[part]['not_measured']}")
        lines += [f"{part}, {power_words(cost, growth)}" for cost, growth in report[part]["growth"].items()]
    leak = report["clicks"]["leak_mb_per_round"]
    kept = "-" if leak is None else f"{leak:+.2f} MB a round"
    lines.append(f"kept after opening, clicking and undoing everything: {kept}")
    return "\n".join([*lines, *busy_note(report), f"{report['seconds']:.0f} s"])


def power_words(cost: str, growth: dict[str, Any]) -> str:
    """One fitted cost: its power and what that means."""
    if growth["exponent"] is None:
        return f"{cost}: not measured"
    cost = cost.replace("_cpu_ms", ", processor time")
    return f"{cost}: power {growth['exponent']:.2f}, {growth['last_exponent']:.2f} at the end: {growth['verdict']}"


def ms(value: float | None) -> str:
    """Milliseconds with three digits, or a dash."""
    return f"{'-':>9}   " if value is None else f"{value:>9,.3g} ms" if value < 999.5 else f"{value:>9,.0f} ms"


def bare(value: float | None) -> str:
    """The same without spaces around."""
    return ms(value).strip()


def mb(value: float | None) -> str:
    """Megabytes, whole from ten on, or a dash."""
    return "-" if value is None else f"{value:,.0f} MB" if value >= 9.95 else f"{value:.2g} MB"


def times(ratio: float | None) -> str:
    """How many times faster ours is."""
    return "not measured" if ratio is None else f"ours {ratio:,.1f} times faster"
