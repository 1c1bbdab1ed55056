"""`python -m tests.simulation run|traces|replay|shrink|cuts|kills`: seeds, one seed, fewer faults, directed faults."""

import argparse
import sys

from tests import tried
from tests.simulation.campaign import run_many, seeds_of
from tests.simulation.cuts import mask_count, play_all, sampled_masks
from tests.simulation.faults import schedule_as_json, schedule_from_json
from tests.simulation.kills import LOADS, kill_many, too_late, waits
from tests.simulation.shrinking import shrink
from tests.simulation.world import Outcome, run_seed


def main(arguments: list[str]) -> int:
    """The exit code: 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run many seeds")
    run.add_argument("--seeds", type=int, default=100)
    run.add_argument("--master-seed", type=int, default=1)
    run.add_argument("--seconds", type=float, help="start no further seed after so long")
    run.add_argument("--processes", type=int)
    traces = commands.add_parser("traces", help="print what stands for all that happened in each of many seeds")
    traces.add_argument("--seeds", type=int, default=100)
    traces.add_argument("--master-seed", type=int, default=1)
    replay = commands.add_parser("replay", help="print the transcript of one seed")
    replay.add_argument("seed", type=int)
    replay.add_argument("--schedule", help="another schedule than the seed's own, as JSON")
    replay.add_argument("--quiet", action="store_true", help="only the result")
    small = commands.add_parser("shrink", help="remove faults from a failing seed's schedule while it still fails")
    small.add_argument("seed", type=int)
    cut = commands.add_parser("cuts", help="play directed cuts: all of up to four servers, a sample of more")
    cut.add_argument("--servers", type=int, default=3)
    cut.add_argument("--sample", type=int, help="so many random cuts instead of all")
    cut.add_argument("--master-seed", type=int, default=1)
    kill = commands.add_parser("kills", help="kill leaders, and tell how long nobody leads in virtual time")
    kill.add_argument("--servers", type=int, default=3)
    kill.add_argument("--kills", type=int, default=2000)
    kill.add_argument("--load", choices=LOADS, default="idle")
    kill.add_argument("--master-seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    if chosen.command == "kills":
        return _kill_leaders(chosen.servers, chosen.kills, chosen.load, chosen.master_seed)
    if chosen.command == "cuts":
        return _play_cuts(chosen.servers, chosen.sample, chosen.master_seed)
    if chosen.command == "shrink":
        outcome = shrink(chosen.seed, _print)
        _report_failure(outcome)
        return 1 if outcome.failed else 0
    if chosen.command == "run":
        totals = run_many(
            seeds_of(chosen.master_seed, chosen.seeds),
            seconds=chosen.seconds,
            processes=chosen.processes,
            report=_report_failure,
        )
        _print(totals.table())
        hours = round(totals.virtual_ms / 3_600_000)
        _print(tried.line({"seeds": totals.runs, "cluster-hours": hours, "faults": totals.faults.total()}))
        return 1 if totals.failures or totals.incomplete else 0
    if chosen.command == "traces":
        for outcome in map(run_seed, seeds_of(chosen.master_seed, chosen.seeds)):
            _print(f"{outcome.seed} {outcome.summary()}; {outcome.commits} commits; trace {outcome.trace_hash}")
        return 0
    schedule = schedule_from_json(chosen.schedule) if chosen.schedule else None
    outcome = run_seed(chosen.seed, schedule=schedule, sink=None if chosen.quiet else _print)
    _print(f"seed {outcome.seed}: {outcome.summary()}; {outcome.at_ms} ms; trace {outcome.trace_hash}")
    return 1 if outcome.failed else 0


def _play_cuts(servers: int, sample: int | None, master_seed: int) -> int:
    masks = sampled_masks(servers, sample, master_seed) if sample else range(mask_count(servers))
    problems = play_all(servers, masks)
    for mask, problem in problems:
        _print(f"{servers} servers, cut {mask:#x}: {problem}")
    _print(f"{len(masks)} cuts of {servers} servers, {len(problems)} with a finding")
    _print(tried.line({f"cuts of {servers} servers": len(masks)}))
    return 1 if problems else 0


def _kill_leaders(servers: int, kills: int, load: str, master_seed: int) -> int:
    done = kill_many(servers, kills, load, master_seed)
    _print(f"{len(done)} kills of {load} leaders of {servers} servers: {waits(done)}")
    for kill in (late := too_late(done)):
        _print(f"FAILED {kill}")
    _print(tried.line({f"kills of {load} leaders": len(done)}))
    return 1 if late else 0


def _report_failure(outcome: Outcome) -> None:
    if outcome.failed:
        _print(f"seed {outcome.seed} failed at {outcome.at_ms} ms: {outcome.summary()}")
        _print(f"  options  {outcome.options.as_json()}")
        _print(f"  schedule {schedule_as_json(outcome.schedule)}")
        _print(f"  replay   python -m tests.simulation replay {outcome.seed}")
        if outcome.error:
            _print(outcome.error)


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
