"""Full collections wait for a quiet moment."""

from kvraft.member.garbage import FULL_EVERY_MS, IDLE_MS, FullCollections


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
