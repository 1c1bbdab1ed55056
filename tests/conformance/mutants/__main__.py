"""`python -m tests.conformance.mutants [--seed S]`: every planted deviation is found within 5,000 requests.

Exits with 1 when one is not found, or when something is found where nothing is planted.
"""

import argparse
import io
import sys
from time import monotonic
from typing import Final

from tests.conformance import systems
from tests.conformance.differential.campaign import Finding, run_campaign
from tests.conformance.differential.coverage import Coverage
from tests.conformance.differential.pair import pair
from tests.conformance.mutants.catalogue import MUTANTS

REQUESTS_MAX: Final = 5000
SEED: Final = 2


def hunt(number: int | None, seed: int) -> tuple[Finding | None, int]:
    """Run the differential test on one mutant, None for the healthy server: what it found, after how many requests."""
    coverage = Coverage()
    with systems.etcd() as oracle, systems.memory(mutant=number) as subject, pair(oracle, subject) as servers:
        finding = run_campaign(servers, REQUESTS_MAX, seed, coverage, shorten=False, log=io.StringIO())
    return finding, coverage.requests


def main() -> int:
    """Hunt them all."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    out = sys.stdout
    failures = 0
    started = monotonic()
    finding, requests = hunt(None, arguments.seed)
    out.write(f"nothing planted: {f'found {finding}' if finding else f'nothing found in {requests} requests'}\n")
    failures += finding is not None
    for number, name in enumerate(MUTANTS):
        finding, requests = hunt(number, arguments.seed)
        failures += finding is None
        words = f"found after {requests:4} requests: {finding.words[:150]}" if finding else "NOT FOUND"
        out.write(f"{name}: {words}\n")
        out.flush()
    out.write(f"{len(MUTANTS)} planted, {failures} failures, seed {arguments.seed}, {monotonic() - started:.0f} s\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
