"""The ledger of rare states: enough of them, and a run that misses one fails."""

import pytest

from tests.simulation.campaign import Totals
from tests.simulation.ledger import REQUIRED


def test_a_campaign_that_misses_a_required_state_names_it() -> None:
    """Silence about a state that was never reached proves nothing."""
    totals = Totals()
    totals.reached.update(REQUIRED)
    assert totals.missed() == []
    totals.reached["log truncated"] = 0
    assert totals.missed() == ["log truncated"]
    assert "NEVER REACHED: log truncated" in totals.table()


def test_required_states_have_names_of_their_own() -> None:
    """At least sixty, each once."""
    assert len(set(REQUIRED)) == len(REQUIRED) >= 60


@pytest.mark.parametrize("found", [[], ["leadership handed over"]])
def test_small_campaigns_are_asked_for_nothing(found: list[str]) -> None:
    """A few seeds cannot reach everything."""
    totals = Totals(runs=10)
    totals.reached.update(found)
    assert not totals.incomplete
