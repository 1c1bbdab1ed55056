"""Whether a series of samples has become flat: its slope over the second half, whatever single samples are."""

import dataclasses
import itertools
import statistics
from collections.abc import Sequence
from typing import Final, final

SAMPLES_MIN: Final = 12
"""Fewer in the second half say nothing."""
SAMPLES_MAX: Final = 400
"""More are thinned out: the slope takes all pairs."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Bound:
    """How much a figure may grow in the second half."""

    absolute: float
    """So much is noise: sawtooths of compaction, of caches and of what is under way."""
    relative: float = 0.05
    """Of its median, where that is more."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Verdict:
    """On one series."""

    median: float
    growth: float
    """Of the second half, along its slope."""
    allowed: float

    @property
    def is_flat(self) -> bool:
        """Whether it does not grow. What shrinks is not looked at: a start takes more than what comes."""
        return self.growth <= self.allowed


def judge(samples: Sequence[tuple[float, float]], bound: Bound) -> Verdict | None:
    """Judge (moment, figure) in order; None if there are too few.

    The slope is the median of the slopes between all pairs (Theil and Sen): a third of the samples may be anything.
    """
    half = (samples[0][0] + samples[-1][0]) / 2 if samples else 0.0
    later = [sample for sample in samples if sample[0] >= half]
    if len(later) < SAMPLES_MIN:
        return None
    thinned = later[:: -(-len(later) // SAMPLES_MAX)]
    slope = statistics.median(
        (figure - earlier) / (moment - before)
        for (before, earlier), (moment, figure) in itertools.combinations(thinned, 2)
    )
    median = statistics.median(figure for _, figure in later)
    growth = slope * (later[-1][0] - later[0][0])
    return Verdict(median, growth, max(bound.absolute, bound.relative * median))
