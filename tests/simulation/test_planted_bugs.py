"""The checkers can fail: planted bugs are found, from whatever master seed."""

import pathlib

import pytest

from tests.simulation.mutants.catalogue import MUTANTS
from tests.simulation.mutants.hunt import finder, hunt, options_of
from tests.simulation.options import draw_options
from tests.simulation.processes import in_processes
from tests.simulation.shrinking import shrink
from tests.simulation.world import Outcome

ANCHORS = ("M1", "M11", "M15", "M19", "M35")
ALWAYS_HUNTED = (*ANCHORS, "M36")
MASTER_SEEDS = (1, 2, 3, 4, 5)
DEAR = ("M1", "M15", "M35")
"""Ten seconds and more for five master seeds: two of them here, the others by `make mutants`."""


@pytest.mark.pure
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ALWAYS_HUNTED)
def test_planted_bug_is_found_from_several_master_seeds(name: str) -> None:
    """A double vote, a log that does not match, a commit by counting old terms, an early acknowledgement, a stale read.

    Each within 20 s of a core; the second stale read, which needs a schedule of its own, within 60 s.
    """
    master_seeds = MASTER_SEEDS[:2] if name in DEAR else MASTER_SEEDS
    for catch in in_processes(hunt, [(name, master_seed) for master_seed in master_seeds]):
        assert catch.expected, f"master seed {catch.master_seed}: {catch.row()}"


def test_anchors_have_twenty_seconds_and_the_rest_a_minute() -> None:
    """Of one core, for `make mutants` too."""
    assert {mutant.name: mutant.seconds_max for mutant in MUTANTS} == {
        mutant.name: 20.0 if mutant.name in ANCHORS else 60.0 for mutant in MUTANTS
    }


@pytest.mark.pure
def test_bug_that_is_found_too_late_does_not_count() -> None:
    """What found it is still told."""
    catch = hunt("M36", 2, seconds_max=0.0)
    assert (catch.found_by, catch.expected) == ("I7", False)
    assert "(late)" in catch.row()


@pytest.mark.parametrize(
    ("path", "found_by"),
    [("kvraft/raft/core.py", "stop"), ("tests/simulation/world.py", "error"), ("../kvraft/tests/x.py", "error")],
)
def test_only_the_products_own_assertion_is_a_stop(path: str, found_by: str) -> None:
    """One of the harness is an error of the harness, also in a checkout that is named kvraft."""
    file = pathlib.Path(__file__).parents[2] / path
    frames = [f'  File "{file.parents[1] / "kvraft/raft/log.py"}", line 1, in f', f'  File "{file}", line 1, in g']
    error = "\n".join(["Traceback (most recent call last):", *frames, "AssertionError: planted"])
    outcome = Outcome(1, draw_options(1), (), error=error)
    assert finder(outcome) == found_by


@pytest.mark.pure
@pytest.mark.slow
def test_read_that_is_never_answered_is_found_by_liveness() -> None:
    """A read that hangs ends for its client by time-out, under faults as without: only a healed server shows it."""
    catch = hunt("M40b", 1)
    assert catch.expected, catch.row()
    assert catch.seeds_tried == 1, "every seed shows it"
    assert "linearizable read" in catch.detail


@pytest.mark.pure
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
