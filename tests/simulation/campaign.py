"""Many seeds on all cores of the machine, and the table of what they did."""

import contextlib
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, final

from tests.simulation.ledger import REQUIRED
from tests.simulation.processes import in_processes
from tests.simulation.streams import derive
from tests.simulation.world import Outcome, run_seed

RUNS_THAT_REACH_ALL: Final = 300
"""With fewer seeds a required state may be missed by chance."""


def seeds_of(master_seed: int, count: int) -> list[int]:
    """The seeds that a master seed stands for. A single seed of them replays alone."""
    return [derive(master_seed, number, "run") for number in range(count)]


@final
@dataclass(slots=True)
class Totals:
    """Sums over many runs."""

    runs: int = 0
    virtual_ms: int = 0
    core_s: float = 0.0
    commits: int = 0
    acknowledged: int = 0
    reads: int = 0
    expired: int = 0
    events: int = 0
    terms: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one run."""
        self.runs += 1
        self.virtual_ms += outcome.at_ms
        self.core_s += outcome.core_s
        self.commits += outcome.commits
        self.acknowledged += outcome.acknowledged
        self.reads += outcome.reads
        self.expired += outcome.expired
        self.events += outcome.events
        self.terms += outcome.terms
        self.faults.update(outcome.faults)
        self.reached.update(outcome.reached)
        self.messages.update(outcome.messages)
        if outcome.failed:
            self.failures.append(outcome)

    def missed(self) -> list[str]:
        """Required rare states that no run has reached."""
        return [name for name in REQUIRED if not self.reached[name]]

    @property
    def incomplete(self) -> bool:
        """Whether so many seeds should have reached more."""
        return self.runs >= RUNS_THAT_REACH_ALL and bool(self.missed())

    def table(self) -> str:
        """The totals as a person reads them."""
        hours = self.virtual_ms / 3_600_000
        speed = self.virtual_ms / 1000 / self.core_s if self.core_s else 0
        lines = [
            f"{self.runs} seeds, {hours:.2f} cluster-hours, {self.faults.total()} faults",
            f"{speed:.0f} simulated seconds per core-second (aim: 100), {self.core_s:.0f} core-seconds",
            f"{self.commits} commits, {self.acknowledged} acknowledged writes, {self.reads} linearizable reads",
            f"{self.expired} expiries, {self.events} watch events, {self.terms} terms with a leader",
            "faults:   " + _listing(self.faults),
            "messages: " + _listing(self.messages),
            "reached:  " + _listing(self.reached),
        ]
        lines.append(f"{sum(1 for count in self.reached.values() if count)} rare states reached")
        if missed := self.missed():
            lines.append("NEVER REACHED: " + ", ".join(missed))
        lines.extend(f"FAILED seed {outcome.seed}: {outcome.summary()}" for outcome in self.failures)
        return "\n".join(lines)


def _listing(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items()))


def run_many(
    seeds: Iterable[int],
    *,
    seconds: float | None = None,
    processes: int | None = None,
    stop_at_failure: bool = False,
    report: Callable[[Outcome], None] | None = None,
) -> Totals:
    """Run seeds on all cores, until they or the seconds are used up."""
    totals = Totals()
    deadline_s = time.monotonic() + seconds if seconds is not None else math.inf
    in_time = itertools.takewhile(lambda _seed: time.monotonic() < deadline_s, seeds)
    with contextlib.closing(in_processes(run_seed, zip(in_time), processes)) as outcomes:
        for outcome in outcomes:
            totals.add(outcome)
            if report is not None:
                report(outcome)
            if outcome.failed and stop_at_failure:
                break
    return totals
