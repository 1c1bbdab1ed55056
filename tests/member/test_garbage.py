"""Full collections wait for a quiet moment, and young objects are looked at in small numbers."""

import gc
import weakref
from collections.abc import Iterator
from typing import final

import pytest

from kvraft.member.garbage import (
    CHANGED_BYTES_MIN,
    FULL_EVERY_MS,
    GIVE_BACK_EVERY_MS,
    GROWN_BYTES_MIN,
    IDLE_GIVE_BACK_EVERY_MS,
    IDLE_MS,
    LOOK_EVERY_MS,
    FullCollections,
    GivingBack,
    collect_young,
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


@final
class Ring:
    """A cycle of one, which reference counts alone never free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def _no_collection_by_count() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection_by_count")
def test_cycle_is_freed_by_the_next_look_unless_it_was_held_at_the_one_before() -> None:
    """So each object is looked at once, however many there are by now."""
    young = weakref.ref(Ring())
    held = Ring()
    collect_young()
    assert young() is None

    old = weakref.ref(held)
    del held
    collect_young()
    assert old() is not None
    gc.collect()
    assert old() is None


HELD = 100 << 20
MOMENT = GIVE_BACK_EVERY_MS


@final
class Process:
    """Memory as it is held, and when some is given back."""

    def __init__(self) -> None:
        self.held = HELD
        self.giving = GivingBack(0, lambda: self.held)

    def is_due(self, applied_index: int, held: int, now_ms: int) -> bool:
        self.held = held
        return self.giving.is_due(applied_index, now_ms)


def test_memory_is_given_back_at_work_once_it_has_grown() -> None:
    """Each time by a part of itself, and from where it was at its lowest."""
    process = Process()
    grown = max(GROWN_BYTES_MIN, HELD // 4)
    assert not process.is_due(1, HELD + grown, MOMENT - 1), "too early"
    assert not process.is_due(2, HELD + grown - 1, MOMENT)
    assert process.is_due(3, HELD + grown, MOMENT + LOOK_EVERY_MS)
    assert not process.giving.is_idle(MOMENT + LOOK_EVERY_MS)
    assert not process.is_due(4, HELD, 2 * MOMENT + LOOK_EVERY_MS)
    assert process.is_due(5, HELD + grown, 2 * MOMENT + 2 * LOOK_EVERY_MS)


def test_memory_is_given_back_once_a_load_ends() -> None:
    """Whatever it has grown by, since it may have been given back at its height."""
    process = Process()
    assert not process.is_due(1, HELD, MOMENT)
    assert not process.is_due(1, HELD, MOMENT + IDLE_MS - 1)
    assert process.is_due(1, HELD, MOMENT + IDLE_MS - 1 + LOOK_EVERY_MS)
    assert process.giving.is_idle(MOMENT + IDLE_MS)
    assert not process.is_due(1, HELD, 2 * MOMENT + IDLE_MS + LOOK_EVERY_MS)


def test_idle_member_gives_back_what_its_clients_have_left() -> None:
    """Watchers that go free memory without a write: seen by a change, or after a minute."""
    process = Process()
    assert process.is_due(0, HELD, MOMENT)
    assert process.is_due(0, HELD - CHANGED_BYTES_MIN, 2 * MOMENT)
    later = 2 * MOMENT + IDLE_GIVE_BACK_EVERY_MS
    assert not process.is_due(0, HELD - CHANGED_BYTES_MIN, later - LOOK_EVERY_MS)
    assert process.is_due(0, HELD - CHANGED_BYTES_MIN, later)


def test_memory_is_looked_at_once_a_second() -> None:
    """Housekeeping comes ten times as often, and to ask the system costs more than all the rest of it."""
    looks = 0

    def held_bytes() -> int:
        nonlocal looks
        looks += 1
        return HELD

    giving = GivingBack(0, held_bytes)
    for now_ms in range(MOMENT, MOMENT + 10 * LOOK_EVERY_MS, 100):
        giving.is_due(now_ms, now_ms)
    assert looks == 1 + 10
