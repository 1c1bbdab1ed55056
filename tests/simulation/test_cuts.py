"""Partial partitions, enumerated: with a connected majority the cluster has a stable leader, without one it is safe."""

import pytest

from tests.simulation import cuts
from tests.simulation.cuts import has_connected_majority, mask_count, play, play_all, sampled_masks

CLOUDFLARE = 0b000001 | 0b000100
"""Places 0 and 1 do not hear each other; place 2 hears and is heard by both (the incident of 2020-11-02)."""


def test_masks_are_counted_and_judged() -> None:
    """64 cuts of three servers, 4,096 of four; nobody is connected when everything is cut."""
    assert mask_count(3) == 64
    assert mask_count(4) == 4096
    assert has_connected_majority(3, 0)
    assert has_connected_majority(3, CLOUDFLARE)
    assert not has_connected_majority(3, 63)


def test_leader_cut_off_from_one_of_two_followers_leaves_service_intact() -> None:
    """The cut of the Cloudflare incident: writes go on with at most two changes of leader."""
    assert play(3, CLOUDFLARE) == ""


CONSTRAINED = 197
"""Of four: place 0 is heard by 2 only, place 2 by 3 only; 3 alone hears and is heard by a majority: 1, 2 and itself."""


def test_connected_server_with_the_shorter_log_is_elected_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raft's limit under partial cuts: place 2 got a write from the leader of before, and 3, which needs it, did not.

    With equal logs the same cut has its leader in time.
    """
    assert has_connected_majority(4, CONSTRAINED)
    assert play(4, CONSTRAINED) == ""
    assert play(4, CONSTRAINED, busy=True) == ""
    monkeypatch.setattr(cuts, "electable", lambda *_: True)
    assert "no leader that has committed a write" in play(4, CONSTRAINED, busy=True)


def test_cluster_without_a_leader_in_time_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim of five election timeouts can fail: within none of them nobody can have committed."""
    monkeypatch.setattr(cuts, "_SETTLE_TIMEOUTS", 0)
    assert "no leader that has committed a write" in play(3, CLOUDFLARE)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_every_cut_of_three_servers() -> None:
    """All 64 directed cuts, of a cluster at rest and of one that is written to."""
    assert play_all(3, range(mask_count(3))) == []


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_sampled_cuts_of_four_and_five_servers() -> None:
    """A sample; `python -m tests.simulation cuts` plays all 4,096 of four and ten thousand of five."""
    assert play_all(4, sampled_masks(4, 60, seed=1)) == []
    assert play_all(5, sampled_masks(5, 30, seed=1)) == []
