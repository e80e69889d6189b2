"""The GPU report in words, and what it says about the project's aims."""

from __future__ import annotations

from typing import Any

from FastSAM3DCore.bench.correctness import LEAST_DICE


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    return None if not numerator or not denominator else numerator / denominator


def aims(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Name of each aim -> what was found and whether it is reached; None where a section failed."""
    nets, sam = report.get("networks", {}), report.get("sam2d", {})
    found: dict[str, dict[str, Any]] = {}

    def note(name: str, value: float | None, limit: float, *, most: bool) -> None:
        reached = None if value is None else bool(value <= limit if most else value >= limit)
        found[name] = {"found": value, "aim": limit, "reached": reached}

    for name in ("default", "student"):
        net = nets.get(name, {})
        note(f"encode of {name}, ms", net.get("encode_ms"), 1.0, most=True)
        note(f"click of {name}, ms", net.get("click_ms"), 1.0, most=True)
        note(
            f"encode of {name} over its floor", ratio(net.get("encode_ms"), net.get("encode_floor_ms")), 4.0, most=True
        )
        note(f"click of {name} over its floor", ratio(net.get("click_ms"), net.get("click_floor_ms")), 4.0, most=True)
        note(f"peak memory of {name}, MB", net.get("peak_mb"), 1024.0, most=True)
    ours = nets.get("student", {}).get("encode_ms")
    note("student over published teacher", ratio(nets.get("teacher_published_ms"), ours), 8.75, most=False)
    note("student over 2D SAM, slice by slice", ratio(sam.get("float32_ms"), ours), 527.0, most=False)
    rows = {row["tokens"]: row for row in report.get("attention", [])}
    for tokens, row in rows.items():
        if tokens >= 4096:
            note(
                f"dense over sparse attention, {tokens} tokens",
                ratio(row["dense_ms"], row["sparse_ms"]),
                1.0,
                most=False,
            )
    counts = sorted(rows)
    if len(counts) > 1:
        growth = ratio(rows[counts[-1]]["sparse_ms"], rows[counts[-2]]["sparse_ms"])
        note("sparse attention, growth of time over growth of tokens",
             ratio(growth, counts[-1] / counts[-2]), 1.25, most=True)  # fmt: skip
    return found


def agrees(report: dict[str, Any]) -> bool:
    """Whether the fast networks give the float32 masks."""
    values = report.get("networks", {}).get("agreement", {})
    return bool(values) and all(row["dice"] >= LEAST_DICE for row in values.values())


def text(report: dict[str, Any]) -> str:
    """The report as people read it."""
    machine, ceilings = report["machine"], report["ceilings"]
    lines = [
        f"GPU report: {machine['device']}, {machine['date']}, torch {machine['torch']}, "
        f"triton {machine.get('triton', 'interpreted')}"
        + ("   DRY RUN: FIGURES MEAN NOTHING" if report["dry_run"] else ""),
        f"measured: {ceilings['tflops']:.3g} TFLOP/s bf16, {ceilings['gigabytes_per_second']:.4g} GB/s copy",
        *correctness_lines(report.get("correctness")),
        *attention_lines(report),
        *network_lines(report.get("networks")),
    ]
    lines += training_lines(report.get("training"))
    if "sam2d" in report:
        lines.append("2D SAM ViT-B, ms for all slices: " + figures(report["sam2d"]))
    if "whole_scan" in report:
        scan = report["whole_scan"]
        lines.append(f"whole scan {scan['shape_ijk']}: first click {number(scan['first_ms'])} ms, "
                     f"warm {number(scan['warm_ms'])} ms; {figures(scan['split_ms'])}")  # fmt: skip
    for name in ("crops", "sharing", "memory_pressure"):
        if name in report:
            lines.append(f"{name}: {report[name]}")
    lines.append("aims:")
    for name, aim in report["aims"].items():
        state = {True: "reached", False: "MISSED", None: "not measured"}[aim["reached"]]
        lines.append(f"  {name:58} {number(aim['found']):>10}  aim {aim['aim']:<8g} {state}")
    lines += [f"not run: {name}, {reason}" for name, reason in report["not_run"].items()]
    lines += [f"FAILED {name}: {reason}" for name, reason in report["failures"].items()]
    lines.append(f"{report['seconds']:.0f} s")
    return "\n".join(lines)


def correctness_lines(found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return []
    lines = [f"kernel against float64: {'all right' if found['passed'] else 'WRONG'}"]
    for name, row in found["cases"].items():
        errors = " ".join(f"{key} {value:.1e}" for key, value in row.items() if key != "passed")
        lines.append(f"  {name:38} {errors}{'' if row['passed'] else '   WRONG'}")
    return lines


def attention_lines(report: dict[str, Any]) -> list[str]:
    lines = []
    for row in report.get("attention", []):
        values = {
            key: row[key] for key in ("sparse_ms", "floor_ms", "sparse_torch_ms", "dense_ms", "sparse_mb", "dense_mb")
        }
        lines.append(f"attention {row['tokens']:>7}: {figures(values)}  kernel: {row['kernel']}")
    for row in report.get("attention_training", []):
        lines.append(f"attention {row['tokens']:>7}, forward and backward: {figures(row, 'tokens')}")
    return lines


def network_lines(nets: dict[str, Any] | None) -> list[str]:
    if nets is None:
        return []
    lines = [f"{name:8} {figures(nets[name], 'name')}" for name in ("student", "teacher", "default")]
    lines.append("published teacher: " + figures({key: value for key, value in nets.items() if key.endswith("_ms")}))
    agreed = "; ".join(
        f"{key} dice {row['dice']:.4f} max {row['max_abs']:.2g}" for key, row in nets["agreement"].items()
    )
    return [*lines, f"against float32: {agreed}; default weights trained: {nets['trained_weights']}"]


def training_lines(found: dict[str, Any] | None) -> list[str]:
    lines = []
    for name, run in (found or {}).items():
        if name == "passed":
            continue
        for row in run["plans"]:
            batch = f"{name} {row['size']}^3 x {row['crops']} crops x {row['targets']} targets"
            if row.get("out_of_memory"):
                lines.append(f"{batch}: OUT OF MEMORY")
                continue
            shown = {key: row[key] for key in ("targets_per_second", "seconds_per_step", "data_share", "peak_gb")}
            lines.append(f"{batch}: {figures(shown)}{'' if row['passed'] else '   LOSS NOT FINITE'}")
        whole = {"seconds_per_step": run["seconds_per_step"], "slots_of_ten_minutes": run["slots"]}
        lines.append(f"{name}, whole run on {run['data']}: {figures(whole)}")
    return lines


def figures(values: dict[str, Any], *leave_out: str) -> str:
    return ", ".join(f"{key} {number(value)}" for key, value in values.items() if key not in leave_out)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
