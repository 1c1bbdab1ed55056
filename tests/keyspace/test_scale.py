"""Depth and size: no recursion, nothing that holds the loop for long, lean nodes."""

import gc
import time
import tracemalloc

import pytest

from kvraft.keyspace.commands import Create, CreateInOrder, Delete, Set, Sync, Update
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.listing import Listing
from kvraft.keyspace.tree import Node
from tests.keyspace.flushes import take_changes
from tests.keyspace.helpers import CLOCK_MS, Disk, acknowledged, done, read_bytes, watch

DEEP = b"/x" * 10_000


def test_paths_ten_thousand_deep_work_everywhere() -> None:
    """Write, read, list, watch, expire, flush, load and remove."""
    keyspace = Keyspace()
    above = watch(keyspace.watchers, b"/x", recursive=True)
    at = watch(keyspace.watchers, DEEP)
    done(keyspace, Set(DEEP, b"1"))
    done(keyspace, Update(DEEP, b"2", ttl_s=1, expiration_ns=1))
    assert above.indices == at.indices == [1, 2]
    assert read_bytes(keyspace, DEEP).startswith(b'{"key":"/x/x/x')
    assert read_bytes(keyspace, b"/", recursive=True).count(b'"key"') == 10_000
    disk = Disk()
    disk.store(take_changes(keyspace))
    assert len(disk.nodes) == 10_000
    restored = Keyspace()
    restored.load(disk.image())
    assert sum(1 for _ in restored._tree.nodes()) == 10_000
    assert (restored.state_hash, restored.next_deadline_ms()) == (keyspace.state_hash, CLOCK_MS + 1000)
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 1000) == 1
    assert done(keyspace, CreateInOrder(DEEP[:-2])).node.path == DEEP[:-2] + b"/00000000000000000004"
    done(keyspace, Delete(b"/x", recursive=True))
    assert above.indices == [1, 2, 3, 4, 5]
    disk.store(take_changes(keyspace))
    assert disk.nodes == {}
    done(restored, Delete(b"/x", recursive=True))
    assert read_bytes(restored, b"/", recursive=True) == b'{"dir":true}'


def test_a_removed_tree_leaves_no_cycle_behind() -> None:
    """After a load everything is frozen and never collected, so removed nodes must go by reference counting alone."""
    gc.collect()
    before = _count_nodes()
    keyspace = Keyspace(history_events_max=1)
    for number in range(2000):
        keyspace.apply(Create(b"/d/%d/%d" % (number % 50, number), b"v", ttl_s=5, expiration_ns=1), CLOCK_MS)
    take_changes(keyspace)
    assert _count_nodes() > before + 2000
    gc.collect()
    gc.disable()
    try:
        done(keyspace, Delete(b"/d", recursive=True))
        take_changes(keyspace)
        assert _count_nodes() == before + 1, "the root alone is left"
    finally:
        gc.enable()


def _count_nodes() -> int:
    return sum(isinstance(thing, Node) for thing in gc.get_objects())


def test_removing_a_large_tree_is_one_short_step_and_the_rest_comes_in_slices() -> None:
    """A hundred thousand nodes: the command takes microseconds, a flush takes the tree apart slice by slice."""
    keyspace = Keyspace(history_events_max=1000)
    for number in range(100_000):
        keyspace.apply(Set(b"/d/%d/%d" % (number % 300, number), b"v"), CLOCK_MS)
    take_changes(keyspace)
    gc.collect()
    started = time.process_time()
    done(keyspace, Delete(b"/d", recursive=True))
    command_s = time.process_time() - started
    slices = []
    pending = keyspace.begin_changes()
    more = True
    while more:
        started = time.process_time()
        more = pending.encode_some()
        slices.append(time.process_time() - started)
    assert len(pending.changes.removed_nodes) == 100_301
    assert command_s < 0.02
    # The median says what a slice costs; the longest may have met a garbage collection.
    assert sorted(slices)[len(slices) // 2] < 0.02
    assert len(slices) > 40


def test_a_hundred_thousand_keys_of_a_kibibyte_are_lean() -> None:
    """At most 1,300 bytes for a key with 1,024 bytes of value: 130 MB in all (measured on a tenth of it)."""
    count = 10_000
    keyspace = Keyspace(history_events_max=1)
    values = [b"%01024d" % number for number in range(16)]
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(count):
            keyspace.apply(Set(b"/registry/k%06d" % number, values[number % 16]), CLOCK_MS)
        disk = take_changes(keyspace)
        assert len(disk.nodes) == count + 1
        del disk
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / count <= 1300


@pytest.mark.slow
def test_very_many_nodes_are_loaded_listed_and_removed_in_slices() -> None:
    """The listing is read to its end while what it lists is removed."""
    count = 200_000
    keyspace = Keyspace(history_events_max=1000)
    for number in range(count):
        keyspace.apply(Set(b"/d/%d/%d" % (number % 1000, number), b"v"), CLOCK_MS)
    disk = Disk()
    disk.store(take_changes(keyspace))
    restored = Keyspace()
    loading = restored.begin_load(disk.image())
    slices = []
    more = True
    while more:
        started = time.process_time()
        more = loading.load_some()
        slices.append(time.process_time() - started)
    assert sorted(slices)[len(slices) // 2] < 0.05
    assert restored.state_hash == keyspace.state_hash
    listing = restored.get(b"/", recursive=True, in_order=True, clock_ms=CLOCK_MS)
    assert isinstance(listing, Listing)
    keys = 0
    for number, fragment in enumerate(listing):
        keys += fragment.count(b'"value"')
        restored.apply(Delete(b"/d/%d" % (number * 5), recursive=True), CLOCK_MS)
    assert keys == count
