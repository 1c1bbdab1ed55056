"""A member of kvraft with one bug of authorization planted, started with a member's command line.

Usage: member.py COMMAND... --name=n1 ..., the bug's number of `by_differential.MUTANTS` in the environment.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    from kvraft.__main__ import main
    from tests.conformance.mutants.by_differential import MUTANTS
    from tests.conformance.systems import AUTH_MUTANT_VARIABLE

    MUTANTS[int(os.environ[AUTH_MUTANT_VARIABLE])].plant()
    sys.argv = ["kvraft", *(word for word in sys.argv[1:] if word.startswith("--"))]
    sys.exit(main())
