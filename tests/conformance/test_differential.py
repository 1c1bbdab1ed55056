"""kvraft against etcd over generated sequences, and the machinery that compares them."""

from typing import Final

import pytest

from tests.conformance import systems
from tests.conformance.differential.campaign import run_campaign
from tests.conformance.differential.coverage import FULL_REQUESTS, Coverage
from tests.conformance.differential.pair import pair

SEED: Final = 20_260_1121
REQUESTS_TO_ONE: Final = 12_000
THREE_FIRST: Final = 100_000
"""Number of the first sequence for three members: far from those for one, which are others."""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_generated_requests_get_etcds_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """20,000 requests, to one member and to three in turn: every answer and event agrees, every row is hit."""
    coverage = Coverage()
    for members, requests, first in ((1, REQUESTS_TO_ONE, 0), (3, FULL_REQUESTS, THREE_FIRST)):
        with systems.etcd() as oracle, systems.subject(members) as subject, pair(oracle, subject) as servers:
            finding = run_campaign(servers, requests, SEED, coverage, first=first)
        assert finding is None, str(finding)
    with capsys.disabled():
        print(f"\nseed {SEED}\n{coverage.report()}")
    assert not coverage.missing()
