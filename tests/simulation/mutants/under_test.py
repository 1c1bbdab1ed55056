"""`python -m tests.simulation.mutants.under_test NAME`: run the test that a planted bug names, with the bug planted.

A process of its own, so that nothing of the bug or of pytest stays behind. Exit code 1 if the test failed, as it must.
"""

import sys

import pytest

from tests.simulation import processes
from tests.simulation.mutants.catalogue import MUTANTS


def main(name: str) -> int:
    """What pytest says: 0 if the test passed all the same."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    processes.stay_here()
    with mutant.plant():
        return int(pytest.main([mutant.test, "-m", "not torture", "-q", "--no-header", "-p", "no:cacheprovider"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
