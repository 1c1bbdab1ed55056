"""What a whole run leaves: `bench/results.json`, a part for each form of kvraft, and two charts made from it."""

import json
import pathlib
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from typing import Any, Final

from bench.chart import Bar, Group, chart
from bench.growth import FLAT, Line
from bench.rows import ROOT, Result
from kvraft import clock

RESULTS: Final = ROOT / "bench" / "results.json"
CHART: Final = ROOT / "docs" / "bench.svg"
GROWTH_CHART: Final = ROOT / "docs" / "growth.svg"


def form() -> str:
    """`pure` or `compiled`: which kvraft runs here.

    Raises:
        ValueError: it does not say.
    """
    shown = _shown(sys.executable, "-m", "kvraft", "--version")
    found = re.search(r"kvraft Form: (\w+)", shown)
    if found is None:
        raise ValueError(shown)
    return found[1]


def measured_on() -> str:
    """Machine, kernel, programs, Python and form, in one line."""
    cpus = re.findall(r"model name\s*: (.+)", pathlib.Path("/proc/cpuinfo").read_text())
    machine = f"{len(cpus)} x {cpus[0]}" if cpus else platform.machine()
    memory = re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())
    assert memory is not None
    etcd = re.search(r"etcd Version: (\S+)", _shown("etcd", "--version"))
    assert etcd is not None
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    now = clock.utc_text(clock.wall_ns() // 10**9)
    built = "with" if optimized else "without"
    commit = _shown("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD").strip() or "unknown"
    return (
        f"{machine}, {int(memory[1]) / 2**20:.0f} GiB, Linux {platform.release()}; etcd {etcd[1]}; "
        f"kvraft {commit}, {form()}; {python} built {built} --enable-optimizations; {now} UTC"
    )


def _shown(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout


def of_rows(results: Sequence[Result], where: str) -> list[dict[str, Any]]:
    """As they are kept; `where` is `measured_on`, of the run that a row comes from."""
    return [
        {
            "row": result.row.name,
            "measured_on": where,
            "words": result.row.words,
            "unit": result.row.unit,
            **result.medians,
            "ratio": result.multiple,
            "advantage": result.row.advantage(result.multiple),
            "goal": result.row.goal,
            "at_least": result.row.at_least,
            "more_is_better": result.row.more_is_better,
            "by_itself": result.row.by_itself,
            "verdict": result.verdict,
            "cpu_us": result.cpu_us,
            "details": result.details,
        }
        for result in results
    ]


def of_lines(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The same of what grows."""
    return [{**line._asdict(), "spread": line.spread, "flat": line.is_flat} for line in lines]


def keep(path: pathlib.Path, which: str, run: dict[str, Any]) -> dict[str, Any]:
    """Put what a run has found so far in the place of what was kept of its form. What is there then.

    Rows and tables that it has not measured stay, and so does the other form: a run that was broken off can be
    completed by `--only` for what it lacks, with `--results`.
    """
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    before = kept.get(which, {"rows": []})
    rows = {row["row"]: row for row in (*before["rows"], *run["rows"])}
    kept[which] = {**before, **run, "rows": list(rows.values())}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(kept, indent=1) + "\n")
    part.replace(path)
    return kept


def draw(kept: dict[str, Any]) -> tuple[str, str]:
    """The chart of the rows that have words, beside etcd, and the one of what grows; in the forms that there are."""
    forms = sorted(kept)
    rows: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    lines: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for which in forms:
        for row in kept[which]["rows"]:
            if row["words"]:
                rows.setdefault(row["words"], []).append((which, row))
        for line in kept[which].get("growth", []):
            lines.setdefault(f"{line['name']}, by {line['over']}", []).append((which, line))
    beside = [
        Group(
            words,
            [Bar(which, row["advantage"], _figures(row)) for which, row in found],
            [_advantage(found[0][1], asked) for asked in ("at_least", "goal") if found[0][1][asked]],
        )
        for words, found in rows.items()
    ]
    grown = [
        Group(
            name,
            [
                Bar(which, value / max(min(line["values"]), 1e-9), f"{size:,}: {value:.4g} {line['unit']}")
                for which, line in found
                for size, value in zip(line["sizes"], line["values"], strict=True)
            ],
            [FLAT],
        )
        for name, found in lines.items()
    ]
    where = "; ".join(kept[which]["measured_on"] for which in forms)
    return (
        chart("kvraft beside etcd: times as good, right of 1 is better; marks: at least, and the goal", where, beside),
        chart("What grows: times the smallest value; mark: flat", where, grown),
    )


def _advantage(row: dict[str, Any], asked: str) -> float:
    wanted: float = row[asked]
    return wanted if row["more_is_better"] else 1 / wanted


def _figures(row: dict[str, Any]) -> str:
    if row["by_itself"]:
        return f"{row['kvraft']:.3g} {row['unit']}; etcd {row['etcd']:.3g}"
    return f"{row['kvraft']:.4g} against {row['etcd']:.4g} {row['unit']}"


def main() -> None:
    """Draw the charts again."""
    for path, drawn in zip((CHART, GROWTH_CHART), draw(json.loads(RESULTS.read_text())), strict=True):
        path.write_text(drawn)


if __name__ == "__main__":
    main()
