"""`python -m tests.conformance.auth_matrix [--cells N] [--seconds S] [--seed S]`: auth on, on by chance, and off.

Without limits it is the whole matrix, which takes most of an hour, as etcd hashes each password that it compares. The
cells are drawn from the seed, those first in which it compares none: with the same seed and number they are the same.
"""

import argparse
import math
import random
import secrets
import sys
from time import monotonic

from tests import tried
from tests.conformance.auth_matrix.cells import ROLES, all_cells, drawn_roles
from tests.conformance.auth_matrix.run import Matrix
from tests.conformance.auth_matrix.servers import doors


def main() -> int:
    """Run it; exit with 1 if something differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.auth_matrix", description=__doc__)
    parser.add_argument("--cells", type=int, default=0, help="so many, drawn from the seed; 0 for all")
    parser.add_argument("--seconds", type=float, default=math.inf, help="for as many as that time allows")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="random unless given; printed")
    arguments = parser.parse_args()
    out = sys.stdout
    cells = list(all_cells())
    rng = random.Random(arguments.seed)
    rng.shuffle(cells)
    chosen = sorted(cells[: arguments.cells or len(cells)], key=lambda cell: cell.costs_a_hash)
    out.write(f"seed {arguments.seed}, {len(chosen)} of {len(cells)} cells\n")
    started, asked, differences = monotonic(), 0, 0
    for number, (auth, roles) in enumerate(((True, ROLES), (True, drawn_roles(rng)), (False, ROLES))):
        share = (arguments.seconds - (monotonic() - started)) / (3 - number)
        with doors() as opened:
            found = Matrix(opened, auth=auth, roles=roles).run(chosen, share)
        asked += found.cells
        differences += len(found.differences)
        out.write(f"auth {'on' if auth else 'off'}, {roles}: {found.cells} cells, {found.closed} closed on both\n")
        out.write("".join(f"  {words}\n" for words in found.differences[:50]))
        out.flush()
    out.write(tried.line({"cells": asked}) + "\n")
    out.write(f"{differences} differences, in {monotonic() - started:.0f} s\n")
    if differences:
        out.write(f"again: python -m tests.conformance.auth_matrix --seed {arguments.seed} --cells {arguments.cells}\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
