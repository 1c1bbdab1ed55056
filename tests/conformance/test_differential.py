"""kvraft against etcd over generated sequences."""

from typing import Final

import pytest

from tests.conformance import systems
from tests.conformance.differential.campaign import run_campaign
from tests.conformance.differential.coverage import FULL_REQUESTS, Coverage
from tests.conformance.differential.pair import pair
from tests.conformance.long_runs import PARTS, SEED, LongRuns

SOME_REQUESTS: Final = 1000
AUTH_REQUESTS: Final = 400
REFUSED_MIN: Final = 0.1
REFUSED_MAX: Final = 0.8
"""Of the requests while roles are by chance."""


@pytest.mark.slow
def test_some_generated_requests_get_etcds_answers() -> None:
    """Beside three members, for every `make test`; every row is hit by those of each landing."""
    coverage = Coverage()
    with systems.etcd() as oracle, systems.subject(3) as subject, pair(oracle, subject) as servers:
        finding = run_campaign(servers, SOME_REQUESTS, SEED, coverage)
    assert finding is None, str(finding)
    assert coverage.requests >= SOME_REQUESTS


@pytest.mark.slow
@pytest.mark.landing
@pytest.mark.timeout(400)
def test_generated_requests_get_etcds_answers(under_way: LongRuns, capsys: pytest.CaptureFixture[str]) -> None:
    """20,000 requests, to one member and to three in turn: every answer and event agrees, every row is hit."""
    assert sum(part.requests for part in PARTS) >= FULL_REQUESTS
    coverage = Coverage()
    results = [future.result() for future in under_way.parts]
    for _, counted in results:
        coverage.add(counted)
    with capsys.disabled():
        print(f"\nseed {SEED}\n{coverage.report()}")
    assert not [str(finding) for finding, _ in results if finding is not None]
    assert not coverage.missing()


@pytest.mark.slow
def test_generated_requests_get_etcds_answers_with_auth_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Users, roles and auth itself change between requests by somebody; `make torture` asks for more."""
    coverage = Coverage()
    with systems.etcd() as oracle, systems.subject() as subject, pair(oracle, subject) as servers:
        finding = run_campaign(servers, AUTH_REQUESTS, SEED, coverage, auth=True)
    with capsys.disabled():
        print(f"\nseed {SEED}, auth on: {coverage.requests} requests, {coverage.refusals} refused for want of rights")
    assert finding is None, str(finding)
    refused = coverage.refusals / coverage.requests
    assert REFUSED_MIN < refused < REFUSED_MAX, "some doors are open and some are closed"
    assert coverage.events, "watches were opened, and saw something"
