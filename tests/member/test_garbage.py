"""Full collections wait for a quiet moment."""

from kvraft.member.garbage import (
    CHANGED_BYTES_MIN,
    FULL_EVERY_MS,
    GIVE_BACK_EVERY_MS,
    GROWN_BYTES_MIN,
    IDLE_GIVE_BACK_EVERY_MS,
    IDLE_MS,
    FullCollections,
    GivingBack,
)


def test_collection_waits_until_writes_pause() -> None:
    """Due by time, it still waits while entries are applied."""
    collections = FullCollections(0)
    assert not collections.is_due(5, FULL_EVERY_MS)
    assert not collections.is_due(6, FULL_EVERY_MS + 1)
    assert not collections.is_due(6, FULL_EVERY_MS + IDLE_MS)
    assert collections.is_due(6, FULL_EVERY_MS + 1 + IDLE_MS)


def test_collections_of_an_idle_member_are_rare() -> None:
    """Nothing was written, so there is little to find."""
    collections = FullCollections(0)
    assert collections.is_due(0, FULL_EVERY_MS)
    assert not collections.is_due(0, 2 * FULL_EVERY_MS - 1)
    assert collections.is_due(0, 2 * FULL_EVERY_MS)


HELD = 100 << 20
MOMENT = GIVE_BACK_EVERY_MS


def test_memory_is_given_back_at_work_once_it_has_grown() -> None:
    """Each time by a part of itself, and from where it was at its lowest."""
    giving = GivingBack(0, HELD)
    grown = max(GROWN_BYTES_MIN, HELD // 4)
    assert not giving.is_due(1, HELD + grown, MOMENT - 1), "too early"
    assert not giving.is_due(2, HELD + grown - 1, MOMENT)
    assert giving.is_due(3, HELD + grown, MOMENT + 1)
    assert not giving.is_idle(MOMENT + 1)
    assert not giving.is_due(4, HELD, 2 * MOMENT + 1)
    assert giving.is_due(5, HELD + grown, 2 * MOMENT + 2)


def test_memory_is_given_back_once_a_load_ends() -> None:
    """Whatever it has grown by, since it may have been given back at its height."""
    giving = GivingBack(0, HELD)
    assert not giving.is_due(1, HELD, MOMENT)
    assert not giving.is_due(1, HELD, MOMENT + IDLE_MS - 1)
    assert giving.is_due(1, HELD, MOMENT + IDLE_MS)
    assert giving.is_idle(MOMENT + IDLE_MS)
    assert not giving.is_due(1, HELD, 2 * MOMENT + IDLE_MS)


def test_idle_member_gives_back_what_its_clients_have_left() -> None:
    """Watchers that go free memory without a write: seen by a change, or after a minute."""
    giving = GivingBack(0, HELD)
    assert giving.is_due(0, HELD, MOMENT)
    assert giving.is_due(0, HELD - CHANGED_BYTES_MIN, 2 * MOMENT)
    assert not giving.is_due(0, HELD - CHANGED_BYTES_MIN, 2 * MOMENT + IDLE_GIVE_BACK_EVERY_MS - 1)
    assert giving.is_due(0, HELD - CHANGED_BYTES_MIN, 2 * MOMENT + IDLE_GIVE_BACK_EVERY_MS)
