"""`python -m tests.conformance.auth_matrix [--cells N] [--seconds S] [--seed S] [--at-once N]`: auth on and off.

On with roles as somebody thought of them, on with roles by chance, and off. Without limits it is the whole matrix. That
is a hash of 60 ms in etcd for some 17,000 cells, so they are dealt out to as many pairs of servers as there are cores.
The cells are drawn from the seed, those first in which etcd compares no password: with the same seed and numbers they
are the same.
"""

import argparse
import concurrent.futures
import math
import multiprocessing
import os
import random
import secrets
import sys
from time import monotonic

from tests import tried
from tests.conformance.auth_matrix.cells import ROLES, all_cells, drawn_roles
from tests.conformance.auth_matrix.run import run_hand


def main() -> int:
    """Run it; exit with 1 if something differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.auth_matrix", description=__doc__)
    parser.add_argument("--cells", type=int, default=0, help="so many, drawn from the seed; 0 for all")
    parser.add_argument("--seconds", type=float, default=math.inf, help="for as many as that time allows")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="random unless given; printed")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="pairs of servers; one for each core")
    arguments = parser.parse_args()
    out = sys.stdout
    cells = list(all_cells())
    rng = random.Random(arguments.seed)
    rng.shuffle(cells)
    chosen = sorted(cells[: arguments.cells or len(cells)], key=lambda cell: cell.costs_a_hash)
    hands = [chosen[number :: arguments.at_once] for number in range(arguments.at_once)]
    out.write(f"seed {arguments.seed}, {len(chosen)} of {len(cells)} cells, {arguments.at_once} at once\n")
    started, asked, differences = monotonic(), 0, 0
    # Not forked: each process begins without what another one has open.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(arguments.at_once, context) as pool:
        for number, (auth, roles) in enumerate(((True, ROLES), (True, drawn_roles(rng)), (False, ROLES))):
            share = (arguments.seconds - (monotonic() - started)) / (3 - number)
            running = [pool.submit(run_hand, hand, roles, share, auth=auth) for hand in hands if hand]
            found = [each.result() for each in running]
            count, closed = sum(each.cells for each in found), sum(each.closed for each in found)
            words = [difference for each in found for difference in each.differences]
            asked += count
            differences += len(words)
            out.write(f"auth {'on' if auth else 'off'}, {roles}: {count} cells, {closed} closed on both, ")
            out.write(f"{monotonic() - started:.0f} s so far\n")
            out.write("".join(f"  {difference}\n" for difference in words[:50]))
            out.flush()
    out.write(tried.line({"cells": asked}) + "\n")
    out.write(f"{differences} differences, in {monotonic() - started:.0f} s\n")
    if differences:
        again = f"--seed {arguments.seed} --cells {arguments.cells} --at-once {arguments.at_once}"
        out.write(f"again: python -m tests.conformance.auth_matrix {again}\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
