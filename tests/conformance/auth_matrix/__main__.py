"""`python -m tests.conformance.auth_matrix [--cells N] [--seed S]`: auth on, on with roles by chance, and off."""

import argparse
import random
import secrets
import sys
from time import monotonic

from tests import tried
from tests.conformance import systems
from tests.conformance.auth_matrix.cells import ROLES, all_cells, drawn_roles
from tests.conformance.auth_matrix.run import Matrix
from tests.conformance.differential.pair import pair


def main() -> int:
    """Run it; exit with 1 if something differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.auth_matrix", description=__doc__)
    parser.add_argument("--cells", type=int, default=0, help="so many, drawn from the seed; 0 for all")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="random unless given; printed")
    arguments = parser.parse_args()
    out = sys.stdout
    cells = list(all_cells())
    rng = random.Random(arguments.seed)
    rng.shuffle(cells)
    chosen = cells[: arguments.cells or len(cells)]
    out.write(f"seed {arguments.seed}, {len(chosen)} of {len(cells)} cells\n")
    started, differences = monotonic(), 0
    for auth, roles in ((True, ROLES), (True, drawn_roles(rng)), (False, ROLES)):
        with systems.etcd() as oracle, systems.subject() as subject, pair(oracle, subject) as servers:
            servers.align()
            found = Matrix(servers, auth=auth, roles=roles).run(chosen)
        differences += len(found.differences)
        out.write(f"auth {'on' if auth else 'off'}, {roles}: {found.cells} cells, {found.closed} closed on both\n")
        out.write("".join(f"  {words}\n" for words in found.differences[:50]))
    out.write(tried.line({"cells": 3 * len(chosen)}) + "\n")
    out.write(f"{differences} differences, in {monotonic() - started:.0f} s\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
