"""Makes a failing schedule small: fewer faults, as long as the same invariant falls."""

from collections.abc import Callable
from typing import Final

from tests.simulation.faults import Fault, draw_schedule
from tests.simulation.options import Options, draw_options
from tests.simulation.world import Outcome, run_seed

_RUNS_MAX: Final = 300


def shrink(seed: int, report: Callable[[str], None], options: Options | None = None) -> Outcome:
    """The smallest failing run that is found of a failing seed; the seed's own run if it does not fail.

    Fewer faults by bisection in ever smaller pieces (delta debugging); a run also ends where the failure happened.
    """
    options = options or draw_options(seed)
    first = run_seed(seed, options=options, schedule=draw_schedule(options))
    if not first.failed:
        return first
    best = first
    runs = 0

    def still_fails(schedule: tuple[Fault, ...]) -> bool:
        nonlocal best, runs
        runs += 1
        outcome = run_seed(seed, options=options, schedule=schedule)
        if outcome.failed and _kind(outcome) == _kind(first):
            best = outcome
            report(f"{len(schedule)} faults: {outcome.summary()}")
            return True
        return False

    schedule = tuple(fault for fault in first.schedule if fault.at_ms <= first.at_ms)
    if not still_fails(schedule):
        schedule = first.schedule
    pieces = 2
    while len(schedule) > 1 and runs < _RUNS_MAX:
        size = -(-len(schedule) // pieces)
        for start in range(0, len(schedule), size):
            rest = schedule[:start] + schedule[start + size :]
            if still_fails(rest):
                schedule, pieces = rest, max(pieces - 1, 2)
                break
        else:
            if pieces >= len(schedule):
                break
            pieces = min(2 * pieces, len(schedule))
    return best


def _kind(outcome: Outcome) -> str:
    return outcome.violation.invariant if outcome.violation else outcome.summary()
