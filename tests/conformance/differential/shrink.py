"""From a failing sequence to a short one that still fails."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tests.conformance.differential.generate import simpler
from tests.conformance.differential.steps import Sequence, Step

ATTEMPTS_MAX: Final = 400
"""Runs of a sequence; each takes some ten milliseconds."""


def shrink(sequence: Sequence, fails: Callable[[Sequence], bool]) -> Sequence:
    """The shortest sequence found that still fails.

    Args:
        sequence: one that fails.
        fails: runs a sequence; may be called `ATTEMPTS_MAX` times.
    """
    attempts = 0

    def still_fails(steps: tuple[Step, ...]) -> bool:
        nonlocal attempts
        attempts += 1
        return attempts <= ATTEMPTS_MAX and fails(replace(sequence, steps=steps))

    steps = sequence.steps
    size = len(steps)
    while size:
        start = 0
        while start < len(steps):
            without = steps[:start] + steps[start + size :]
            if without and still_fails(without):
                steps = without
            else:
                start += size
        size //= 2
    for number in range(len(steps)):
        tried = True
        while tried:
            tried = False
            for other in simpler(steps[number]):
                changed = (*steps[:number], other, *steps[number + 1 :])
                if still_fails(changed):
                    steps, tried = changed, True
                    break
    return replace(sequence, steps=steps)
