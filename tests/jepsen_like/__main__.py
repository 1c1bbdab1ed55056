"""`python -m tests.jepsen_like run --workload W --nemesis N --seconds S --seed X`: real members, real faults.

Exit code 0 if the workload's claim holds. All records and the page of results stay in the directory.
"""

import argparse
import signal
import sys
from pathlib import Path

from tests import tried
from tests.jepsen_like import history
from tests.jepsen_like.check import PROBLEMS_SHOWN
from tests.jepsen_like.nemesis import NEMESES
from tests.jepsen_like.run import Settings, run
from tests.jepsen_like.workloads import WORKLOADS


def main() -> int:
    """Run once, or each workload in turn for `--workload all`."""
    parser = argparse.ArgumentParser(prog="python -m tests.jepsen_like", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("run")
    command.add_argument("--workload", choices=[*WORKLOADS, "all"], default="register")
    command.add_argument("--nemesis", choices=list(NEMESES), default="mixed")
    command.add_argument("--seconds", type=float, default=60.0, help="of faults, for each workload")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument("--kind", choices=["kvraft", "etcd"], default="kvraft")
    command.add_argument("--members", type=int, choices=[3, 5], default=3)
    command.add_argument("--rate", type=float, default=200.0, help="operations a second of all clients together")
    command.add_argument("--default-reads", action="store_true", help="reads without quorum=true")
    command.add_argument("--secure", action="store_true", help="TLS for clients and peers, and auth on")
    command.add_argument("--directory", type=Path, default=Path("torture-results"))
    given = parser.parse_args()
    # Ended by a time limit, a run takes its namespaces and disks with it too.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    found = 0
    for workload in WORKLOADS if given.workload == "all" else [given.workload]:
        settings = Settings(
            workload=workload,
            nemesis=given.nemesis,
            seconds=given.seconds,
            seed=given.seed,
            kind=given.kind,
            members=given.members,
            quorum=not given.default_reads,
            rate_hz=given.rate,
            secure=given.secure,
        )
        directory = given.directory.resolve() / f"{workload}-{given.nemesis}-{given.kind}-{given.seed}"
        verdict = run(settings, directory)
        found += len(verdict.problems)
        print((directory / "report.txt").read_text().rstrip())
        faults = len(history.read_faults(directory))
        print(tried.line({"workloads": 1, "faults": faults, "operations": verdict.counts["operations"]}))
        if len(verdict.problems) > PROBLEMS_SHOWN:
            print(f"... and {len(verdict.problems) - PROBLEMS_SHOWN} problems more")
        print(f"seed {given.seed}: {len(verdict.problems)} problems; all records are in {directory}\n", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
