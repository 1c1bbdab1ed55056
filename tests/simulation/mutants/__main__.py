"""`python -m tests.simulation.mutants [NAME ...]`: plant each bug, print what found it.

Exit code 1 if one survives, is found too late, or by something else than it should.
"""

import argparse
import os
import sys

from tests.simulation.mutants.catalogue import MUTANTS
from tests.simulation.mutants.hunt import Catch, hunt
from tests.simulation.processes import in_processes


def main(arguments: list[str]) -> int:
    """Hunt the named bugs, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--master-seeds", default="1", help="comma-separated")
    parser.add_argument("--seconds", type=float, help="of a core for each; otherwise each bug's own limit")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    names = chosen.names or [mutant.name for mutant in MUTANTS]
    tasks = [(name, int(seed), chosen.seconds) for name in names for seed in chosen.master_seeds.split(",")]
    catches: list[Catch] = []
    for catch in in_processes(hunt, tasks, chosen.processes):
        catches.append(catch)
        sys.stdout.write(catch.row() + "\n")
        sys.stdout.flush()
    missed = [catch for catch in catches if not catch.expected]
    by_time = sorted(catches, key=lambda catch: catch.core_s)
    slowest = ", ".join(f"{catch.name} {catch.core_s:.1f} s" for catch in by_time[:-6:-1])
    sys.stdout.write(
        f"{len(catches) - len(missed)} of {len(catches)} found as expected; "
        f"median {by_time[len(by_time) // 2].core_s:.1f} s, slowest {slowest}\n"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
