"""Runs one target for a time: batches of inputs, each batch from a seed of its own, until one fails or time is up."""

import collections
import contextlib
import dataclasses
import traceback
from collections.abc import Callable
from typing import Any, Final, final

import hypothesis
from hypothesis import strategies as st

from kvraft import clock

BATCH: Final = 200
"""Inputs drawn from one seed. A finding is repeated by its batch alone, so at most so many come before it."""


class TimeIsUpError(BaseException):
    """Ends a batch; no `Exception`, so that hypothesis takes it for no finding."""


REACHED_WITHIN: Final = 1000

Check = Callable[[Any], str]
"""Tries one input. Returns in a word what became of it, for the count; raises whatever shows a bug."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Target:
    """Something to be fuzzed."""

    name: str
    inputs: st.SearchStrategy[Any]
    open: Callable[[], contextlib.AbstractContextManager[Check]]
    """What is needed to try inputs, for the time of a campaign."""
    outcomes: frozenset[str] = frozenset()
    """What must have come up within `REACHED_WITHIN` inputs: otherwise the grammar does not reach what it should."""


@final
@dataclasses.dataclass(slots=True)
class Result:
    """What a campaign came to."""

    inputs: int
    outcomes: collections.Counter[str]
    seed: int
    """Of the last batch, the one with the finding if there is one."""
    finding: str | None
    """The traceback of the smallest failing input, with that input; None if nothing was found."""
    missed: frozenset[str]
    """What should have come up and did not, though `REACHED_WITHIN` inputs were tried."""


def fuzz(target: Target, seconds: float, seed: int, *, until_reached: bool = False) -> Result:
    """Try inputs for about `seconds`; a finding ends it, once it is shrunk.

    `until_reached`: go on after that for the outcomes that should come up, but not beyond `REACHED_WITHIN` inputs.
    """
    outcomes: collections.Counter[str] = collections.Counter()
    deadline_ms = 0

    def is_over() -> bool:
        wanted = until_reached and outcomes.total() < REACHED_WITHIN and target.outcomes - outcomes.keys()
        return not wanted and clock.monotonic_ms() >= deadline_ms

    with target.open() as check:
        deadline_ms = clock.monotonic_ms() + int(seconds * 1000)
        while True:
            finding = _batch(target, check, seed, is_over, outcomes)
            if finding is not None or is_over():
                missed = target.outcomes - outcomes.keys() if outcomes.total() >= REACHED_WITHIN else frozenset()
                return Result(outcomes.total(), outcomes, seed, finding, missed)
            seed += 1


def _batch(
    target: Target, check: Check, seed: int, is_over: Callable[[], bool], outcomes: collections.Counter[str]
) -> str | None:
    """Try the inputs of one seed; the finding, shrunk and printed as Python, or None."""
    failed = False

    def attempt(given: Any) -> None:
        nonlocal failed
        # The first input is tried however long hypothesis took to make ready (on a cold start, over a second).
        if not failed and outcomes and is_over():
            raise TimeIsUpError
        try:
            outcomes[check(given)] += 1
        except Exception:
            failed = True
            raise

    drawn = hypothesis.given(given=target.inputs)(attempt)
    limited = hypothesis.settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
    )(drawn)
    try:
        hypothesis.seed(seed)(limited)()
    except TimeIsUpError:
        return None
    except Exception as error:  # noqa: BLE001 -- whatever a target raises is what is looked for
        return "".join(traceback.format_exception(error))
    return None
