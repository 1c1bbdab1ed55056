"""kvraft against etcd over generated sequences."""

import pytest

from tests.conformance.differential.coverage import FULL_REQUESTS, Coverage
from tests.conformance.long_runs import PARTS, SEED, LongRuns


@pytest.mark.slow
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
