"""The checkers can fail: planted bugs are found, from whatever master seed."""

import pytest

from tests.simulation.mutants.catalogue import MUTANTS
from tests.simulation.mutants.hunt import hunt

ALWAYS_HUNTED = ("M1", "M15", "M19")
MASTER_SEEDS = (1, 2, 3, 4, 5)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ALWAYS_HUNTED)
def test_planted_bug_is_found_from_five_master_seeds(name: str) -> None:
    """A double vote, a commit of an old term by counting, an acknowledgement before the sync: each within 60 s."""
    for master_seed in MASTER_SEEDS:
        catch = hunt(name, master_seed)
        assert catch.expected, f"master seed {master_seed}: {catch.row()}"


def test_every_planted_bug_has_a_name_of_its_own() -> None:
    """The table of planted bugs can be read by number."""
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
