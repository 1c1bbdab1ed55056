"""The sum over all nodes follows every change, and a load must come to it."""

import random

import pytest

from kvraft.keyspace.commands import Command, CreateInOrder, Delete, Set, Sync, Update
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.node_hash import node_hash, sum_bytes
from kvraft.keyspace.records import STATE_HASH_BYTES, RecordError
from kvraft.keyspace.state_records import StateImage
from tests.keyspace.flushes import take_changes
from tests.keyspace.helpers import CLOCK_MS, Disk

SEEDS = range(20)
COMMANDS = 300


def _command(chance: random.Random) -> Command:
    path = b"/" + b"/".join(chance.choice((b"a", b"b", b"c")) for _ in range(chance.randint(1, 4)))
    ttl_s = chance.choice((-1, -1, 1, 5))
    return chance.choice(
        (
            Set(path, b"%d" % chance.randrange(100), ttl_s=ttl_s),
            Set(path, b"%d" % chance.randrange(100), ttl_s=ttl_s),
            Set(path, directory=True, ttl_s=ttl_s),
            CreateInOrder(path, b"job"),
            Update(path, ttl_s=ttl_s),
            Delete(path, recursive=True, directory=True),
            Sync(),
        )
    )


def _counted(keyspace: Keyspace) -> bytes:
    return sum_bytes(sum(node_hash(node) for node in keyspace._tree.nodes()))


@pytest.mark.parametrize("seed", SEEDS)
def test_sum_is_that_of_the_nodes_whatever_happens_and_when_it_is_flushed(seed: int) -> None:
    """Creations on the way, TTLs of directories, expiry, whole subtrees, and flushes with writes in between."""
    chance = random.Random(seed)
    keyspace, disk = Keyspace(), Disk()
    clock_ms, compared = CLOCK_MS, 0
    pending = None
    for _ in range(COMMANDS):
        clock_ms += chance.randrange(300)
        keyspace.apply(_command(chance), clock_ms)
        node_sum = keyspace.compared_hash()[STATE_HASH_BYTES:]
        if node_sum:
            compared += 1
            assert node_sum == _counted(keyspace)
        if pending is None and chance.random() < 0.1:
            pending = keyspace.begin_changes()
        if pending is not None and not pending.encode_some(2):
            disk.store(pending.changes)
            pending = None
            again = Keyspace()
            again.load(disk.image())
            assert again.compared_hash()[STATE_HASH_BYTES:] == _counted(again)
    assert compared > COMMANDS / 2


def _stored() -> tuple[Keyspace, Disk]:
    keyspace, disk = Keyspace(), Disk()
    for number in range(5):
        keyspace.apply(Set(b"/d/key%d" % number, b"value"), CLOCK_MS)
    disk.store(take_changes(keyspace))
    return keyspace, disk


def test_state_that_lacks_a_record_is_not_served() -> None:
    """A file has no child that would miss it."""
    _, disk = _stored()
    image = disk.image()
    with pytest.raises(RecordError, match="add up to"):
        Keyspace().load(StateImage(image.meta, iter(list(image.nodes)[1:]), image.history))


def test_state_with_an_older_record_of_a_node_is_not_served() -> None:
    """Its checksum is right, and it was there once."""
    keyspace, disk = _stored()
    older = dict(disk.image().nodes)
    keyspace.apply(Set(b"/d/key3", b"newer"), CLOCK_MS)
    changes = take_changes(keyspace)
    [(key, _)] = changes.nodes
    disk.store(changes)
    image = disk.image()
    nodes = [(other, older[key] if other == key else record) for other, record in image.nodes]
    with pytest.raises(RecordError, match="add up to"):
        Keyspace().load(StateImage(image.meta, iter(nodes), image.history))


def test_node_that_changed_without_an_event_is_seen_once_members_compare() -> None:
    """The answers so far were the same; only the trees differ."""
    one, other = _stored()[0], _stored()[0]
    assert one.compared_hash() == other.compared_hash()
    file = next(node for node in other._tree.nodes() if node.name == b"key2")
    file.modified_index += 1
    for keyspace in (one, other):
        keyspace.apply(Set(b"/d/key2", b"new"), CLOCK_MS)
    assert one.compared_hash()[STATE_HASH_BYTES:] != other.compared_hash()[STATE_HASH_BYTES:]
