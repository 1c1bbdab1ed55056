"""The checkers can fail: planted bugs are found, from whatever master seed."""

import multiprocessing

import pytest

from tests.simulation.mutants.catalogue import MUTANTS
from tests.simulation.mutants.hunt import hunt, options_of
from tests.simulation.shrinking import shrink

ALWAYS_HUNTED = ("M1", "M15", "M19", "M36")
MASTER_SEEDS = (1, 2, 3, 4, 5)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ALWAYS_HUNTED)
def test_planted_bug_is_found_from_five_master_seeds(name: str) -> None:
    """A double vote, a commit by counting old terms, an early acknowledgement, a stale read: each within 60 s."""
    with multiprocessing.get_context("fork").Pool() as pool:
        catches = pool.starmap(hunt, [(name, master_seed) for master_seed in MASTER_SEEDS], chunksize=1)
    for catch in catches:
        assert catch.expected, f"master seed {catch.master_seed}: {catch.row()}"


@pytest.mark.slow
def test_read_that_is_never_answered_is_found_by_liveness() -> None:
    """A read that hangs ends for its client by time-out, under faults as without: only a healed server shows it."""
    catch = hunt("M40b", 1)
    assert catch.expected, catch.row()
    assert catch.seeds_tried == 1, "every seed shows it"
    assert "linearizable read" in catch.detail


@pytest.mark.slow
def test_failing_schedule_shrinks_to_few_faults() -> None:
    """What is left of a failing schedule still fails by the same invariant, with fewer faults."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "M49")
    catch = hunt("M49", 1)
    options = options_of(mutant, catch.seed)
    with mutant.plant():
        small = shrink(catch.seed, lambda _line: None, options)
    assert small.violation is not None
    assert small.violation.invariant == catch.found_by
    assert len(small.schedule) <= 3


def test_every_planted_bug_has_a_name_of_its_own() -> None:
    """The table of planted bugs can be read by number."""
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
