"""Any number of requests from one seed, and the shortest sequence that shows a difference."""

import sys
from dataclasses import dataclass
from random import Random
from typing import TextIO, final

from tests.conformance.differential.accounts import FOUNDING, forget, secured
from tests.conformance.differential.coverage import Coverage
from tests.conformance.differential.generate import sequence_of
from tests.conformance.differential.pair import NoAnswerError, Pair
from tests.conformance.differential.run import DifferenceError, Run
from tests.conformance.differential.shrink import shrink
from tests.conformance.differential.steps import Sequence
from tests.conformance.systems import HISTORY_SIZE


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """A difference, and the shortest sequence found that shows it."""

    seed: int
    number: int
    """Which sequence of the seed, from 0."""
    words: str
    sequence: Sequence

    def __str__(self) -> str:
        return f"seed {self.seed}, sequence {self.number}: {self.words}\n{self.sequence}"


def run_campaign(
    pair: Pair,
    requests: int,
    seed: int,
    coverage: Coverage,
    *,
    auth: bool = False,
    first: int = 0,
    shorten: bool = True,
    log: TextIO = sys.stdout,
) -> Finding | None:
    """Send at least `requests` requests to both servers; stop at the first difference and return it.

    Args:
        pair: the servers.
        requests: how many to each; what is sent while shrinking is not counted.
        seed: decides every sequence, each by itself: the n-th of a seed is the same wherever a campaign starts.
        coverage: counts what is sent.
        auth: with users and roles, and auth on while a sequence runs.
        first: number of the first sequence.
        shorten: whether to look for a shorter sequence that shows the same.
        log: where a difference is reported as soon as it is met, before shrinking.
    """
    # The windows of history begin with what each server wrote for itself; fill them with the same.
    pair.reset(above=HISTORY_SIZE)
    if auth:
        for server in pair.both:
            assert server.ask(FOUNDING).status in {200, 201}, "it may have been there before"
    number = first
    while coverage.requests < requests:
        random = Random(f"{seed}/{number}")
        sequence = sequence_of(random)
        if auth:
            sequence = secured(random, sequence)
        words = difference_in(pair, sequence, coverage)
        if words is not None:
            finding = Finding(seed, number, words, sequence)
            log.write(f"{finding}\n")
            log.flush()
            return _shortened(pair, finding) if shorten else finding
        number += 1
    return None


def difference_in(pair: Pair, sequence: Sequence, coverage: Coverage) -> str | None:
    """Run one sequence; in what the servers differ, in words, or None. The pair is ready for the next one after it."""
    try:
        Run(pair, sequence, coverage).run()
    except (DifferenceError, NoAnswerError) as error:
        # Events from before the difference may differ as well: a watch of the next sequence must not reach them.
        if sequence.auth:
            for server in pair.both:
                server.close()
                forget(server.ask)
        pair.reset(above=HISTORY_SIZE)
        return str(error)
    return None


def _shortened(pair: Pair, finding: Finding) -> Finding:
    words = [finding.words]

    def fails(sequence: Sequence) -> bool:
        found = difference_in(pair, sequence, Coverage())
        if found is not None:
            words.append(found)
        return found is not None

    if not fails(finding.sequence):
        return Finding(finding.seed, finding.number, f"{finding.words} (once; not when run again)", finding.sequence)
    sequence = shrink(finding.sequence, fails)
    return Finding(finding.seed, finding.number, words[-1], sequence)
