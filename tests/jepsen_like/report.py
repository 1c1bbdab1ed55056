"""The page of a run: what was done, what was found, the faults on a timeline and every operation's latency beside them.

`report.txt` has the words and `report.html` the picture too, drawn as SVG by hand: a log scale, dots and bars.
"""

import html
import math
from pathlib import Path
from typing import Final

from tests.jepsen_like import history
from tests.jepsen_like.check import PROBLEMS_SHOWN, Verdict
from tests.jepsen_like.history import Fault, Record

WIDTH: Final = 1100
LATENCY_HEIGHT: Final = 320
LEFT: Final = 60
LANE: Final = 18
DOTS_MAX: Final = 6_000
"""More would be a slow page; then every second, third, ... answered operation is left out, and no other."""
LOWEST_MS: Final = 0.1
HIGHEST_MS: Final = 10_000.0
COLOURS: Final = {"ok": "#3778bf", "failed": "#7a9a3c", "unknown": "#d9822b", "not sent": "#999999"}
STYLE: Final = """
body { font: 14px sans-serif; margin: 2em; max-width: 75em }
td, th { padding: 0.1em 1em 0.1em 0; text-align: left }
pre { white-space: pre-wrap; background: #f4f4f4; padding: 1em }
svg text { font: 11px sans-serif }
.found { color: #b00020 } .fine { color: #1b7f3b }
"""


def write(directory: Path, command: str, claim: str, verdict: Verdict) -> None:
    """Write both pages."""
    records = history.read_all(directory)
    faults = history.read_faults(directory)
    lines = text(command, claim, verdict, records, faults)
    (directory / "report.txt").write_text("\n".join(lines) + "\n")
    (directory / "report.html").write_text(page(command, claim, verdict, records, faults))


def text(command: str, claim: str, verdict: Verdict, records: list[Record], faults: list[Fault]) -> list[str]:
    """The run in words."""
    began = start_of(records, faults)
    lines = [command, f"claim: {claim}", f"{len(verdict.problems)} problems, {len(faults)} faults"]
    lines += [f"  {name}: {count}" for name, count in sorted(verdict.counts.items())]
    lines += [f"  latency of answered operations, ms: {latencies(records)}"]
    lines += [f"  {(f.start - began) / 1e9:6.2f} s to {(f.end - began) / 1e9:6.2f} s: {f.what}" for f in faults]
    lines += [f"PROBLEM {problem}" for problem in verdict.problems[:PROBLEMS_SHOWN]]
    return lines


def latencies(records: list[Record]) -> str:
    """Quantiles."""
    sorted_ms = sorted((record.end - record.start) / history.MS for record in records if record.outcome == "ok")
    if not sorted_ms:
        return "none"
    places = {"median": 0.5, "p99": 0.99, "maximum": 1.0}
    return ", ".join(f"{name} {sorted_ms[int(place * (len(sorted_ms) - 1))]:.1f}" for name, place in places.items())


def page(command: str, claim: str, verdict: Verdict, records: list[Record], faults: list[Fault]) -> str:
    """The run as a page that needs nothing else."""
    found = f"{len(verdict.problems)} problems" if verdict.problems else "nothing found"
    counts = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{count}</td></tr>" for name, count in sorted(verdict.counts.items())
    )
    problems = "\n".join(verdict.problems[:PROBLEMS_SHOWN])
    return f"""<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>kvraft: {html.escape(found)}</title><style>{STYLE}</style>
<h1 class="{"found" if verdict.problems else "fine"}">{html.escape(found)}</h1>
<p>Claim: {html.escape(claim)}.</p>
<pre>{html.escape(command)}</pre>
<h2>Faults, and the latency of every operation</h2>
{picture(records, faults)}
<h2>Counts</h2>
<table>{counts}</table>
<p>Latency of answered operations, ms: {latencies(records)}.</p>
<h2>Problems</h2>
<pre>{html.escape(problems or "none")}</pre>
</html>
"""


def picture(records: list[Record], faults: list[Fault]) -> str:
    """Time from left to right; faults as bars with their names above, operations as dots below, higher is slower."""
    began = start_of(records, faults)
    ended = max([record.end for record in records] + [fault.end for fault in faults], default=began + 1)
    scale = (WIDTH - LEFT) / max(1, ended - began)
    lanes = placed(faults)
    top = LANE * (max(lanes, default=-1) + 2)
    height = top + LATENCY_HEIGHT + 2 * LANE

    def x(at: int) -> float:
        return LEFT + (at - began) * scale

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}">']
    for fault, lane in zip(faults, lanes, strict=True):
        left, width, y = x(fault.start), max(1.0, (fault.end - fault.start) * scale), LANE * lane
        what = html.escape(fault.what)
        parts.append(
            f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{LANE - 3}" fill="#e8a0a0"><title>{what}</title>'
            f'</rect><rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{LATENCY_HEIGHT}" fill="#fbeaea"/>'
            f'<text x="{left + 3:.1f}" y="{y + LANE - 6}">{what}</text>'
        )
    parts += axes(top, (ended - began) / 1e9, scale)
    step = max(1, len(records) // DOTS_MAX)
    for number, record in enumerate(records):
        if record.outcome == "ok" and number % step:
            continue
        y_dot = top + height_of((record.end - record.start) / history.MS)
        name = html.escape(f"{record.action} {record.key} by {record.client} at {record.member}: {record.outcome}")
        parts.append(
            f'<circle cx="{x(record.start):.1f}" cy="{y_dot:.1f}" r="1.8" fill="{COLOURS[record.outcome]}">'
            f"<title>{name}</title></circle>"
        )
    for place, (outcome, colour) in enumerate(COLOURS.items()):
        parts.append(f'<text x="{LEFT + 90 * place}" y="{height - 2}" fill="{colour}">&#9679; {outcome}</text>')
    return "\n".join([*parts, "</svg>"])


def axes(top: int, seconds: float, scale: float) -> list[str]:
    """Milliseconds by powers of ten, seconds in round steps."""
    parts = []
    for power in range(round(math.log10(LOWEST_MS)), round(math.log10(HIGHEST_MS)) + 1):
        y = top + height_of(10.0**power)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>'
            f'<text x="2" y="{y + 4:.1f}">{10.0**power:g} ms</text>'
        )
    step = next(step for step in (1, 2, 5, 10, 30, 60, 300, 1800, 86_400) if seconds / step <= 25)
    for at in range(0, int(seconds) + 1, step):
        x = LEFT + at * 1e9 * scale
        parts.append(f'<text x="{x:.1f}" y="{top + LATENCY_HEIGHT + 12}">{at} s</text>')
    return parts


def height_of(milliseconds: float) -> float:
    """From the top of the latency field, on a logarithmic scale."""
    bounded = min(HIGHEST_MS, max(LOWEST_MS, milliseconds))
    return LATENCY_HEIGHT * (1 - math.log10(bounded / LOWEST_MS) / math.log10(HIGHEST_MS / LOWEST_MS))


def placed(faults: list[Fault]) -> list[int]:
    """A lane for each fault, so that neither bars nor, mostly, their names cover one another."""
    return [number % 6 for number in range(len(faults))]


def start_of(records: list[Record], faults: list[Fault]) -> int:
    """The first moment of a run."""
    return min([record.start for record in records] + [fault.start for fault in faults], default=0)
