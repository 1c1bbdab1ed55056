"""How a long test says how much it tried, so that `make torture` can add it up over many runs."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

_LINE: Final = re.compile(r"^tried: (.+)$", re.MULTILINE)


def line(counts: Mapping[str, int]) -> str:
    """`tried: 300 seeds, 16979 faults`; what was not tried at all is left out."""
    return "tried: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def read(output: str) -> Counter[str]:
    """The sum of all such lines in what a test printed."""
    counts: Counter[str] = Counter()
    for found in _LINE.findall(output):
        for part in found.split(", "):
            count, _, what = part.partition(" ")
            counts[what] += int(count)
    return counts
