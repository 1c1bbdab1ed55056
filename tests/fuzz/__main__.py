"""`python -m tests.fuzz [TARGET ...] [--seconds 60] [--seed N]`: exit code 1 with the smallest failing input if any.

Without a target all take their turns, each for its part of the time. `--member` sends HTTP to a whole member of kvraft
instead of its API over a keyspace in memory.
"""

import argparse
import secrets
import sys

from tests import tried
from tests.fuzz.engine import Target, fuzz
from tests.fuzz.targets import targets


def main() -> int:
    """Run the campaigns and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    names = [target.name for target in targets(member=False)]
    parser.add_argument("target", nargs="*", choices=[*names, []], help=", ".join(names))
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=secrets.randbits(31))
    parser.add_argument("--member", action="store_true")
    given = parser.parse_args()
    chosen = [target for target in targets(member=given.member) if not given.target or target.name in given.target]
    found = [run(target, given.seconds / len(chosen), given.seed, member=given.member) for target in chosen]
    return 1 if any(found) else 0


def run(target: Target, seconds: float, seed: int, *, member: bool) -> bool:
    """One campaign; whether it found something."""
    result = fuzz(target, seconds, seed)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in result.outcomes.most_common())
    print(f"{target.name}: {result.inputs} inputs from seed {seed}: {outcomes}")
    print(tried.line({f"{target.name} inputs": result.inputs}), flush=True)
    if result.finding is None:
        if not result.missed:
            return False
        print(f"FOUND: never reached: {', '.join(sorted(result.missed))}", flush=True)
        return True
    print(result.finding.encode("utf-8", "backslashreplace").decode())
    flag = " --member" if member else ""
    print(f"FOUND; again with: python -m tests.fuzz {target.name} --seconds 600 --seed {result.seed}{flag}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
