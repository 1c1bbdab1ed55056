"""Rows of the table: what is measured, in which direction it is good, and what is asked of it."""

import math
import pathlib
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, final

from bench.measured import Measured
from bench.secure import secured
from kvraft.testing.cluster import Cluster, Program

ROOT: Final = pathlib.Path(__file__).parents[1]
BUILD: Final = ROOT / "build" / "bench"

Measure = Callable[[str, Program, int], list[Measured]]
"""From a label that is a directory's name, what is measured, and the seconds that it may take."""
Run = Callable[[Cluster, int], list[Measured]]
"""The same on a cluster that stands."""


class Row(NamedTuple):
    """One line of the table."""

    name: str
    unit: str
    more_is_better: bool
    goal: float | None = None
    """kvraft's figure as a multiple of etcd's: no less where more is better, and otherwise no more; None for none."""
    at_least: float | None = None
    """What it must reach where it misses the goal; None: the goal."""
    by_itself: bool = False
    """The goal is for kvraft's own figure, which is a multiple already."""
    is_alone: bool = False
    """The same, and etcd has no equal."""
    words: str = ""
    """What a chart calls it; the name, if there are none."""

    def multiple(self, medians: Mapping[str, float]) -> float:
        """What is compared with the goal."""
        if self.by_itself or self.is_alone:
            return medians["kvraft"]
        return medians["kvraft"] / medians["etcd"] if medians["etcd"] else math.inf

    def advantage(self, multiple: float) -> float:
        """The multiple so that more is better."""
        return multiple if self.more_is_better else 1 / multiple if multiple else math.inf

    def verdict(self, multiple: float) -> str:
        """Where the multiple stands: `goal`, `enough`, `missed`, or nothing if nothing is asked."""
        if self.goal is None:
            return ""
        for asked, verdict in ((self.goal, "goal"), (self.at_least or self.goal, "enough")):
            if multiple >= asked if self.more_is_better else multiple <= asked:
                return verdict
        return "missed"


class Workload(NamedTuple):
    """What is measured in one go."""

    rows: tuple[Row, ...]
    """One for each figure that `measure` gives."""
    measure: Measure


@final
class OnCluster:
    """Measured on a new cluster of three."""

    def __init__(self, run: Run) -> None:
        self.run: Final = run

    def __call__(self, label: str, program: Program, seconds: int) -> list[Measured]:
        directory = BUILD / label
        shutil.rmtree(directory, ignore_errors=True)
        with Cluster(directory, program=program) as cluster:
            return self.run(cluster, seconds)


def on_cluster(run: Run) -> OnCluster:
    """Measured on a new cluster of three."""
    return OnCluster(run)


def with_security(run: Run, *, tls: bool, auth: bool) -> Measure:
    """Measured on a new cluster whose clients speak TLS, or have a user, or both."""
    return secured(BUILD, run, tls=tls, auth=auth)


class Result(NamedTuple):
    """What a row has come to."""

    row: Row
    medians: dict[str, float]
    """By program: `etcd`, `kvraft`, and `before`, if another checkout took its turn."""
    cpu_us: dict[str, float]
    """Of an operation, all members together; only of those where it is counted."""
    details: dict[str, str]
    """The last round's."""

    @property
    def multiple(self) -> float:
        """Kvraft's figure over etcd's."""
        return self.row.multiple(self.medians)

    @property
    def verdict(self) -> str:
        """See `Row.verdict`."""
        return self.row.verdict(self.multiple)


def result_of(row: Row, found: Mapping[str, Sequence[Measured]]) -> Result:
    """Medians of the rounds of each program."""
    cpu = {label: [one.cpu_us for one in rounds if one.cpu_us is not None] for label, rounds in found.items()}
    return Result(
        row,
        {label: statistics.median(one.value for one in rounds) for label, rounds in found.items()},
        {label: statistics.median(each) for label, each in cpu.items() if each},
        {label: rounds[-1].detail for label, rounds in found.items()},
    )


HEADING: Final = (
    f"{'row':<18}{'etcd':>10}{'kvraft':>10}{'ratio':>8}{'goal':>7}{'least':>7}  {'':<7}{'CPU':>8}{'CPU':>8}  unit"
)


def show(result: Result) -> None:
    """Print both figures, how they compare, what is asked, and the CPU of an operation beside each."""
    row = result.row
    etcd = "  no equal" if row.is_alone else f"{result.medians['etcd']:>10.4g}"
    kvraft = f"{result.medians['kvraft']:>10.4g}"
    goal, least = (f"{'' if asked is None else format(asked, '.2f'):>7}" for asked in (row.goal, row.at_least))
    cpu = "".join(
        f"{format(result.cpu_us[label], '.4g') if label in result.cpu_us else '':>8}" for label in ("etcd", "kvraft")
    )
    print(f"{row.name:<18}{etcd}{kvraft}{result.multiple:>8.2f}{goal}{least}  {result.verdict:<7}{cpu}  {row.unit}")
    if "before" in result.medians:
        before = result.medians["before"]
        now = row.advantage(result.medians["kvraft"] / before) if before else math.inf
        print(f"    before: {before:.4g}; now {now:.2f} times as good")
    for label, detail in result.details.items():
        print(f"    {label}: {detail}", flush=True)
