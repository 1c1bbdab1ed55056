"""When the leader writes the clock to the log."""

from kvraft.keyspace.commands import Sync
from kvraft.member.expirer import IN_FLIGHT_LOOK_MS, Expirer


def test_nothing_is_proposed_while_no_key_has_a_ttl() -> None:
    """An idle cluster without TTLs writes nothing (etcd-io/etcd#3255)."""
    assert Expirer(30_000).due(10**9, 0, None) is None
    assert Expirer(30_000).wait_ms(10**9, 0, None) is None


def test_sync_is_proposed_once_when_a_key_is_due() -> None:
    """The next one waits until the first is applied or lost."""
    expirer = Expirer(30_000)
    assert expirer.due(4_999, 4_000, 5_000) is None
    assert expirer.wait_ms(4_999, 4_000, 5_000) == 1
    assert expirer.due(5_000, 4_000, 5_000) == Sync()
    assert expirer.due(5_001, 4_000, 5_000) is None
    assert expirer.wait_ms(5_001, 4_000, 5_000) == IN_FLIGHT_LOOK_MS
    expirer.applied()
    assert expirer.due(5_002, 4_000, 5_000) == Sync()


def test_clock_is_written_after_thirty_idle_seconds_while_ttls_exist() -> None:
    """So a restart of everything extends a TTL by the downtime and at most 30 s more."""
    expirer = Expirer(30_000)
    assert expirer.due(39_999, 10_000, 10**9) is None
    assert expirer.wait_ms(39_999, 10_000, 10**9) == 1
    assert expirer.due(40_000, 10_000, 10**9) == Sync()
