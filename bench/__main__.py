"""`python -m bench [--only put_c64,get_c64] [--rounds 3] [--seconds 4]`: kvraft against etcd, with the goals.

Three members each on loopback, fresh data on a real disk for each measurement, etcd and kvraft in turn, clients on the
leader. The machine should be quiet: three members, the client and whatever else runs share its cores.
`--before CHECKOUT` has the kvraft of another checkout take its turn too: before and after a change in one run.
`growth` and `pysyncobj` are the names of two more tables. A whole run, without `--only`, leaves `bench/results.json`
and the charts in `docs/`, after each row, so that one that was broken off is not lost: `--only` with
`--results bench/results.json` adds what it lacks.
"""

import argparse
import os
import pathlib
import shutil
import sys
from typing import Any, Final

from bench import results
from bench.growth import growth
from bench.measured import Measured
from bench.replicated_dict import AT_ONCE, DEFAULTS, JOURNAL, KVRAFT, Kind, of_kvraft, of_pysyncobj
from bench.rows import BUILD, HEADING, Result, Row, Workload, result_of, show
from bench.scale import SCALE
from bench.table import WORKLOADS
from kvraft import clock
from kvraft.testing.cluster import Program

GROWTH: Final = "growth"
PYSYNCOBJ: Final = "pysyncobj"
ROUNDS: Final = 3


def arguments() -> argparse.Namespace:
    """The command line."""
    names = [*(row.name for workload in WORKLOADS for row in workload.rows), GROWTH, PYSYNCOBJ]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", help="names of rows and tables, by commas; a row brings its workload")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="the median of so many is shown")
    parser.add_argument("--seconds", type=int, default=4, help="for each measurement")
    parser.add_argument("--before", type=pathlib.Path, metavar="CHECKOUT", help="measure the kvraft in there too")
    parser.add_argument("--smoke", action="store_true", help="try each row for a moment, with little in it")
    parser.add_argument("--results", type=pathlib.Path, help="where to keep the figures of this run")
    given = parser.parse_args()
    is_whole = not (given.only or given.before or given.smoke)
    given.only = given.only.split(",") if given.only else names
    given.results = given.results or (results.RESULTS if is_whole else None)
    if unknown := [name for name in given.only if name not in names]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(names)}")
    if given.before and not (given.before / "kvraft" / "__main__.py").exists():
        parser.error(f"{given.before} is no checkout of kvraft")
    return given


def compare(workload: Workload, programs: dict[str, Program], rounds: int, seconds: int) -> list[Result]:
    """What a workload's rows come to; the programs take turns."""
    has_equal = not all(row.is_alone for row in workload.rows)
    if not has_equal:
        rounds = 1  # with nothing to take turns with, it has turns of its own
    found: dict[str, list[list[Measured]]] = {label: [] for label in programs if has_equal or label != "etcd"}
    for _ in range(rounds):
        for label, figures in found.items():
            figures.append(workload.measure(label, programs[label], seconds))
    return [
        result_of(row, {label: [figures[number] for figures in each] for label, each in found.items()})
        for number, row in enumerate(workload.rows)
    ]


def beside_pysyncobj(rounds: int, seconds: int) -> list[dict[str, Any]]:
    """The third table, printed."""
    rows = [Row(f"{at_once} at once", "per s", True) for at_once in AT_ONCE]
    directory = BUILD / PYSYNCOBJ
    found: dict[Kind, list[list[Measured]]] = {KVRAFT: [], DEFAULTS: [], JOURNAL: []}
    for _ in range(rounds):
        found[KVRAFT].append(of_kvraft(directory, Program(), seconds))
        found[DEFAULTS].append(of_pysyncobj(directory, seconds, journal=False))
        found[JOURNAL].append(of_pysyncobj(directory, seconds, journal=True))
    lines = []
    for kind, figures in found.items():
        medians = [result_of(row, {"": [one[number] for one in figures]}) for number, row in enumerate(rows)]
        line = {
            "name": kind.name,
            "durability": kind.durability,
            **{result.row.name: {"per_s": result.medians[""], "cpu_us": result.cpu_us[""]} for result in medians},
        }
        lines.append(line)
        shown = ", ".join(
            f"{result.row.name} {result.medians['']:.0f} per s, {result.cpu_us['']:.0f} us of CPU" for result in medians
        )
        print(f"{kind.name:<28}{shown}; {kind.durability}", flush=True)
    return lines


def main() -> int:
    """Print the tables. Always 0: a figure below its goal is news, not an error."""
    given = arguments()
    SCALE.is_smoke = given.smoke
    # Started as an installed kvraft is, whose bytecode is there: pip makes it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(BUILD / "bytecode")
    programs = {"etcd": Program("etcd"), "kvraft": Program()}
    if given.before:
        # `python -m` looks in the working directory first.
        programs["before"] = Program(wrapper=("env", "-C", str(given.before.resolve())))
    begun_ms = clock.monotonic_ms()
    where = results.measured_on()
    run: dict[str, Any] = {"measured_on": where, "rounds": given.rounds, "seconds": given.seconds, "rows": []}

    def keep() -> None:
        if given.results:
            kept = results.keep(given.results, results.form(), run)
            if given.results.resolve() == results.RESULTS:
                for path, drawn in zip((results.CHART, results.GROWTH_CHART), results.draw(kept), strict=True):
                    path.write_text(drawn)

    print(where)
    print(HEADING)
    for workload in WORKLOADS:
        if not any(row.name in given.only for row in workload.rows):
            continue
        found = compare(workload, programs, given.rounds, given.seconds)
        for result in found:
            show(result)
        run["rows"] += results.of_rows(found, where)
        keep()
    if GROWTH in given.only:
        run[GROWTH] = results.of_lines(growth(BUILD / GROWTH, Program(), given.seconds, 1))
        keep()
    if PYSYNCOBJ in given.only:
        run[PYSYNCOBJ] = beside_pysyncobj(given.rounds, given.seconds)
        keep()
    print(f"{(clock.monotonic_ms() - begun_ms) / 60_000:.1f} minutes")
    shutil.rmtree(BUILD, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
