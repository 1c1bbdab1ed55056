"""`python -m tests.conformance.differential --requests N --seed S [--members 1] [--auth]`: kvraft against etcd.

Prints the counts and exits with 0; at the first difference prints the shortest sequence that shows it and exits with 1.
"""

import argparse
import secrets
import sys
from time import monotonic

from tests import tried
from tests.conformance import systems
from tests.conformance.differential.campaign import run_campaign
from tests.conformance.differential.coverage import FULL_REQUESTS, HITS_MIN, Coverage
from tests.conformance.differential.pair import pair


def main() -> int:
    """Run one campaign."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.differential", description=__doc__)
    parser.add_argument("--requests", type=int, default=FULL_REQUESTS, help="to each server")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="random unless given; printed")
    parser.add_argument("--members", type=int, default=1, help="members of the subject")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first sequence: that of a report, to repeat"
    )
    parser.add_argument("--auth", action="store_true", help="users and roles by chance; etcd takes far longer")
    arguments = parser.parse_args()
    if arguments.auth and arguments.members > 1:
        parser.error("--auth is for one member: a follower may judge by roles that have just changed")
    out = sys.stdout
    out.write(f"seed {arguments.seed}\n")
    coverage = Coverage()
    started = monotonic()
    with systems.etcd() as oracle, systems.subject(arguments.members) as subject, pair(oracle, subject) as servers:
        finding = run_campaign(
            servers, arguments.requests, arguments.seed, coverage, auth=arguments.auth, first=arguments.first
        )
    out.write(tried.line({"requests": coverage.requests}) + "\n")
    out.write(f"{coverage.report()}\nin {monotonic() - started:.1f} s\n")
    if finding is not None:
        out.write(f"\n{finding}\n")
        return 1
    # Of any seed less is asked than of the one that lands: what is rare comes some 25 times, give or take.
    missing = coverage.missing(HITS_MIN // 4)
    if arguments.requests >= FULL_REQUESTS and not arguments.auth and missing:
        out.write("hit too seldom: " + ", ".join(missing) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
