"""Searches seeds until a planted bug is found."""

import dataclasses
import itertools
import os
import pathlib
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Final, final

from tests.simulation.mutants.catalogue import MUTANTS
from tests.simulation.mutants.planting import Mutant
from tests.simulation.options import Options, draw_loose_options
from tests.simulation.streams import derive
from tests.simulation.world import Outcome, run_seed

_ROOT: Final = pathlib.Path(__file__).parents[3]
_PRODUCT: Final = f'  File "{_ROOT / "kvraft"}{os.sep}'
_WALL_PER_CORE: Final = 10
"""A test may wait for a busy machine, but not for ever."""


@final
@dataclass(slots=True, frozen=True)
class Catch:
    """How the search for one planted bug went."""

    name: str
    title: str
    master_seed: int
    found_by: str
    """The invariant that fell, `stop` if the product stopped itself, `error` for others, empty if it survived."""
    expected: bool
    """Whether that is what should have found it, in time."""
    seed: int
    """The seed that found it; 0 if a unit test did."""
    detail: str
    seeds_tried: int
    core_s: float
    late: bool = False
    """Found after its time, which does not count."""

    def row(self) -> str:
        """One line of the table."""
        found = self.found_by or "SURVIVED"
        where = f"seed {self.seed}" if self.seed else "test"
        mark = "" if self.expected or not self.found_by else " (late)" if self.late else " (unexpected)"
        return f"{self.name:5} {self.title:60.60} {found + mark:10} {self.core_s:5.1f} s  {where}  {self.detail:.80}"


def hunt(name: str, master_seed: int, seconds_max: float | None = None) -> Catch:
    """Plant a bug and run the seeds of a master seed until something is found or the processor time is used up."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    limit_s = mutant.seconds_max if seconds_max is None else seconds_max
    if mutant.test:
        return _hunt_by_test(mutant, master_seed, limit_s)
    started_s = time.process_time()
    for number in itertools.count():
        seed = derive(master_seed, number, "run")
        outcome = run_planted(mutant, seed)
        core_s = time.process_time() - started_s
        found_by = finder(outcome)
        late = core_s > limit_s
        if found_by or late:
            expected = found_by in mutant.invariants and not late
            detail = outcome.summary()
            return Catch(name, mutant.title, master_seed, found_by, expected, seed, detail, number + 1, core_s, late)
    raise AssertionError("the loop above ends")


def _hunt_by_test(mutant: Mutant, master_seed: int, limit_s: float) -> Catch:
    """Run the test that must fail. Whatever pytest says but "a test failed" is no catch."""
    before = os.times()
    command = [sys.executable, "-m", f"{__package__}.under_test", mutant.name]
    try:
        run = subprocess.run(
            command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=limit_s * _WALL_PER_CORE
        )
        code, said = run.returncode, f" passes (pytest: {run.returncode})"
    except subprocess.TimeoutExpired:
        code, said = 0, " does not end"
    after = os.times()
    core_s = after.children_user + after.children_system - before.children_user - before.children_system
    late = core_s > limit_s
    found_by = {0: "", 1: mutant.invariants[0]}.get(code, "error")
    detail = mutant.test.rpartition("::")[2] + ("" if found_by else said)
    expected = found_by in mutant.invariants and not late
    return Catch(mutant.name, mutant.title, master_seed, found_by, expected, 0, detail, 1, core_s, late)


def options_of(mutant: Mutant, seed: int) -> Options:
    """What a seed draws, as the planted bug wants it; on the fast disk and loose links unless it asks for others."""
    return mutant.options(dataclasses.replace(draw_loose_options(seed), sectors=False))


def run_planted(mutant: Mutant, seed: int) -> Outcome:
    """One run with a planted bug."""
    options = options_of(mutant, seed)
    with mutant.plant():
        return run_seed(seed, options=options, schedule=mutant.schedule(options))


def finder(outcome: Outcome) -> str:
    """What a run fell by. An error that the harness raises is no stop of the product, even if it is an assertion."""
    if outcome.violation is not None:
        return outcome.violation.invariant
    if outcome.error:
        frames = [line for line in outcome.error.splitlines() if line.startswith("  File ")]
        return "stop" if frames[-1].startswith(_PRODUCT) else "error"
    return ""
