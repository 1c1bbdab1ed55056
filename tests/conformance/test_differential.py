"""kvraft against etcd over generated sequences."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, final

import pytest

from tests.conformance import systems
from tests.conformance.differential.campaign import Finding, run_campaign
from tests.conformance.differential.coverage import FULL_REQUESTS, Coverage
from tests.conformance.differential.pair import pair

SEED: Final = 20_260_1121


@final
@dataclass(frozen=True, slots=True)
class Part:
    """A part of the requests, with servers of its own."""

    members: int
    first: int
    """Number of its first sequence; the parts' sequences are others."""
    requests: int


PARTS: Final = (Part(1, 0, 6000), Part(1, 50_000, 6000), Part(3, 100_000, 8000))
"""At the same time: most of each part is waiting, for a disk or for something to expire."""


def run_part(part: Part) -> tuple[Finding | None, Coverage]:
    """Run one part on a fresh etcd and a fresh subject."""
    coverage = Coverage()
    with systems.etcd() as oracle, systems.subject(part.members) as subject, pair(oracle, subject) as servers:
        return run_campaign(servers, part.requests, SEED, coverage, first=part.first), coverage


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_generated_requests_get_etcds_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """20,000 requests, to one member and to three in turn: every answer and event agrees, every row is hit."""
    assert sum(part.requests for part in PARTS) >= FULL_REQUESTS
    coverage = Coverage()
    with ThreadPoolExecutor(len(PARTS)) as pool:
        results = list(pool.map(run_part, PARTS))
    for _, counted in results:
        coverage.add(counted)
    with capsys.disabled():
        print(f"\nseed {SEED}\n{coverage.report()}")
    assert not [str(finding) for finding, _ in results if finding is not None]
    assert not coverage.missing()
