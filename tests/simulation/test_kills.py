"""Deaths of leaders under fair links: nobody waits for a whole election timeout."""

import pytest

from tests.simulation.kills import kill_many, too_late


@pytest.mark.slow
@pytest.mark.parametrize(
    ("servers", "load", "kills"),
    [(3, "idle", 1000), (3, "busy", 500), (4, "idle", 250), (4, "busy", 125), (5, "idle", 125), (5, "busy", 125)],
)
def test_no_death_of_a_leader_is_felt(servers: int, load: str, kills: int) -> None:
    """None of some 2,000 costs more than half an election timeout: neither rivals nor leases of the dead hold anybody.

    Survivors notice at moments of their own, with disks and loops that are quick or slow.
    """
    done = kill_many(servers, kills, load, 1)
    assert len(done) >= kills
    assert not too_late(done)
