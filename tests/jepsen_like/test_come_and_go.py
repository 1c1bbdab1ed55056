"""The membership changes under load, in namespaces, judged by a program that did not write the data."""

from pathlib import Path

import pytest

from tests.jepsen_like import come_and_go
from tests.jepsen_like.come_and_go import ELECTION_TIMEOUT_S, FULL_PLACES, Changes, Script

SEED = 20_261_129


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("script", "places", "kills"),
    [
        pytest.param(Changes.short, 4, 3, id="short", marks=pytest.mark.landing),
        pytest.param(Changes.full, FULL_PLACES, 10, id="full", marks=pytest.mark.torture),
    ],
)
def test_members_come_and_go_under_load_and_nothing_is_lost(
    tmp_path: Path, script: Script, places: int, kills: int
) -> None:
    """Grown, replaced, wiped, moved, shrunk, leaders removed, kill -9 in the middle: no acknowledged write is lost."""
    outcome, verdict = come_and_go.run_and_check(tmp_path, script, SEED, places)
    assert verdict.problems == [], f"seed {SEED}"
    assert outcome.watch_problems == [], f"seed {SEED}"
    assert outcome.kills >= kills, "a kill came too late for its change"
    assert outcome.leaders_removed >= 2
    assert outcome.longest_gap_s < 2 * ELECTION_TIMEOUT_S
