"""Bars on a logarithmic axis, as SVG: a template is enough for that, and its bytes change with the figures alone."""

import html
import math
from collections.abc import Sequence
from typing import Final, NamedTuple

WIDTH: Final = 960
NAMES: Final = 300
PLOT: Final = 330
BAR: Final = 11
GAP: Final = 9
TOP: Final = 58
BOTTOM: Final = 34
LOW: Final = 0.125
HIGH: Final = 64.0
TICKS: Final = (0.25, 0.5, 1, 2, 4, 8, 16, 32)
SHADES: Final = {"pure": "#7aa6c2", "compiled": "#2d6a8e"}


class Bar(NamedTuple):
    """One figure."""

    form: str
    """Of kvraft: `pure` or `compiled`."""
    ratio: float
    text: str


class Group(NamedTuple):
    """What stands under one name."""

    name: str
    bars: Sequence[Bar]
    marks: Sequence[float]
    """Ratios that are asked for."""


def x_of(ratio: float) -> float:
    """Where a ratio stands; those beyond the axis stand at its ends."""
    within = min(max(ratio, LOW), HIGH)
    return round(NAMES + PLOT * math.log(within / LOW) / math.log(HIGH / LOW), 1)


def chart(title: str, note: str, groups: Sequence[Group]) -> str:
    """An SVG document."""
    height = TOP + BOTTOM + sum(len(group.bars) * BAR + GAP for group in groups)
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="11" role="img">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="18" font-size="13" font-weight="bold">{html.escape(title)}</text>',
    ]
    for number, (form, shade) in enumerate(SHADES.items()):
        drawn.append(f'<rect x="{8 + 80 * number}" y="27" width="10" height="10" fill="{shade}"/>')
        drawn.append(f'<text x="{22 + 80 * number}" y="36">{form}</text>')
    for tick in TICKS:
        x = x_of(tick)
        shade = "#000" if tick == 1 else "#ddd"
        drawn.append(f'<line x1="{x}" y1="{TOP - 6}" x2="{x}" y2="{height - BOTTOM}" stroke="{shade}"/>')
        drawn.append(f'<text x="{x}" y="{TOP - 10}" text-anchor="middle" fill="#555">{tick:g}</text>')
    y = TOP
    for group in groups:
        tall = len(group.bars) * BAR
        drawn.append(f'<text x="{NAMES - 8}" y="{y + tall / 2 + 4}" text-anchor="end">{html.escape(group.name)}</text>')
        for number, bar in enumerate(group.bars):
            begin, end = sorted((x_of(1), x_of(bar.ratio)))
            top = y + number * BAR
            wide = max(end - begin, 1)
            drawn.append(
                f'<rect x="{begin}" y="{top + 1}" width="{wide:.1f}" height="{BAR - 2}" fill="{SHADES[bar.form]}"/>'
            )
            text = html.escape(f"{bar.ratio:.2f} x  ({bar.text})")
            drawn.append(f'<text x="{NAMES + PLOT + 8}" y="{top + 9}" font-size="10">{text}</text>')
        drawn += [
            f'<line x1="{x}" y1="{y - 1}" x2="{x}" y2="{y + tall + 1}" stroke="#c33" stroke-width="2"/>'
            for x in map(x_of, group.marks)
        ]
        y += tall + GAP
    drawn += [f'<text x="8" y="{height - 10}" font-size="9" fill="#555">{html.escape(note)}</text>', "</svg>", ""]
    return "\n".join(drawn)
