"""State as records: golden bytes for ever, flushes as of one index whatever is written meanwhile, loads that check."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kvraft.keyspace.cluster import ClusterMember, ClusterState
from kvraft.keyspace.commands import (
    AddMember,
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    MoveMember,
    PublishMember,
    RegisterFounders,
    RemoveMember,
    Set,
    SetClusterVersion,
    SetHistorySize,
    Sync,
    Update,
)
from kvraft.keyspace.event_history import internal_event
from kvraft.keyspace.events import Action, Event, NodeView
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.records import (
    Meta,
    RecordError,
    decode_event,
    decode_key,
    decode_meta,
    decode_node,
    encode_event,
    encode_key,
    encode_meta,
    encode_node,
)
from kvraft.keyspace.state_records import StateImage
from kvraft.keyspace.tree import AnyNode, Directory, File, Lifetime
from tests.keyspace.flushes import take_changes
from tests.keyspace.helpers import CLOCK_MS, Disk, assert_same, done

DATA = Path(__file__).parent.parent / "data" / "keyspace"
GOLDEN = DATA / "records-v1.json"
GOLDEN_META = DATA / "meta-v2.json"
ROOT = Directory(0, None, b"", 0, None)
PARENT = Directory(0x0000_3000_0000_0005, ROOT, b"d", 5, None)

NODES: dict[str, AnyNode] = {
    "file": File(7, PARENT, b"k\xff", 7, 9, None, b'"\\u003cv\\u003e"', None),
    "file with ttl": File(7, PARENT, b"k", 7, 7, Lifetime(1_000_500, 1_795_220_480_992_253_050), b'""', None),
    "file with raw value": File(8, PARENT, b"k", 8, 8, None, b'"\\ufffd"', b"\xff"),
    "directory": PARENT,
    "directory with ttl": Directory(9, PARENT, b"sub", 9, Lifetime(2**63, 2**64 - 1)),
}

EVENTS: dict[str, Event] = {
    "set": Event(
        Action.SET,
        NodeView(b"/d/k", False, b'"2"', 5, 77, 12, 12),
        NodeView(b"/d/k", False, b'"1"', -1, 66, 11, 11),
        refresh=False,
    ),
    "create": Event(Action.CREATE, NodeView(b"/d", True, None, 0, 0, 12, 12), None, refresh=False),
    "update refresh": Event(
        Action.UPDATE,
        NodeView(b"/d", True, None, 5, 77, 12, 3),
        NodeView(b"/d", True, None, 0, 0, 3, 3),
        refresh=True,
    ),
    "compareAndSwap": Event(
        Action.COMPARE_AND_SWAP,
        NodeView(b"/k", False, b'""', 0, 0, 12, 3),
        NodeView(b"/k", False, b'""', 0, 0, 3, 3),
        refresh=False,
    ),
    "delete": Event(
        Action.DELETE,
        NodeView(b"/d", True, None, 0, 0, 12, 3),
        NodeView(b"/d", True, None, 0, 0, 3, 3),
        refresh=False,
    ),
    "compareAndDelete": Event(
        Action.COMPARE_AND_DELETE,
        NodeView(b"/k\xff", False, None, 0, 0, 12, 3),
        NodeView(b"/k\xff", False, b'"v"', 0, 0, 3, 3),
        refresh=False,
    ),
    "expire": Event(
        Action.EXPIRE,
        NodeView(b"/k", False, None, 0, 0, 12, 3),
        NodeView(b"/k", False, b'"v"', 0, 2**64 - 1, 3, 3),
        refresh=False,
    ),
    "internal": internal_event(12),
}

META = Meta(
    etcd_index=300,
    state_hash=bytes(range(16)),
    cluster=ClusterState(
        {
            2**64 - 1: ClusterMember(("http://127.0.0.1:2380", "http://é:1")),
            3: ClusterMember((), "n1", ("http://127.0.0.1:2379", "http://é"), has_started=True),
        },
        {7, 2**64 - 2},
        "3.4.0",
    ),
    history_events_max=1000,
    history_floor=17,
    history_block_bytes={0: 500, 1: 700},
)


def golden_records() -> dict[str, str]:
    """Every kind of record as this version writes it, in hex."""
    records = {f"node: {name}": encode_node(node) for name, node in NODES.items()}
    records |= {f"event: {name}": encode_event(event) for name, event in EVENTS.items()}
    records |= {"key": encode_key(0x0102030405060708)}
    return {name: record.hex() for name, record in records.items()}


def test_every_kind_of_record_has_its_golden_bytes() -> None:
    """What version 1 wrote, every later one must read; a change of these bytes is another version."""
    golden = json.loads(GOLDEN.read_text())
    del golden["meta"]  # of which there is a second version
    assert golden_records() == golden
    assert json.loads(GOLDEN_META.read_text()) == {"meta": encode_meta(META).hex()}


def test_meta_record_is_of_the_first_version_as_long_as_that_says_everything() -> None:
    """So a member that is to be upgraded yet can load a snapshot; each thing that it cannot say makes it the second."""
    first = bytes.fromhex(json.loads(GOLDEN.read_text())["meta"])
    assert first[0] == 1
    meta = decode_meta(first)
    assert encode_meta(meta) == first
    for member in (ClusterMember(("http://a:1",)), ClusterMember(name="n1"), ClusterMember(has_started=True)):
        changed = replace(meta, cluster=ClusterState({1: member}, set(), "3.4.0"))
        assert encode_meta(changed)[0] == 2
        assert decode_meta(encode_meta(changed)).cluster == changed.cluster
    assert encode_meta(replace(meta, cluster=replace(meta.cluster, removed_ids={9})))[0] == 2


def test_golden_records_come_back_as_what_was_written() -> None:
    """Read from the committed bytes, not from fresh ones."""
    golden = {name: bytes.fromhex(record) for name, record in json.loads(GOLDEN.read_text()).items()}
    for name, node in NODES.items():
        record = decode_node(golden[f"node: {name}"])
        assert (record.parent_id, record.name, record.directory) == (
            0 if node is PARENT else PARENT.node_id,
            node.name,
            isinstance(node, Directory),
        )
        assert (record.created_index, record.modified_index) == (node.created_index, node.modified_index)
        assert record.lifetime == node.lifetime
        if isinstance(node, File):
            assert (record.value_json, record.raw) == (node.value_json, node.raw)
    for name, event in EVENTS.items():
        assert decode_event(12, golden[f"event: {name}"]) == event
    assert decode_meta(bytes.fromhex(json.loads(GOLDEN_META.read_text())["meta"])) == META
    assert decode_key(golden["key"]) == 0x0102030405060708


def test_meta_of_before_peer_urls_were_replicated_is_read() -> None:
    """Who has a name has started; where members are reached is filled in by a leader."""
    old = ClusterState(
        {
            2**64 - 1: ClusterMember((), "n2", (), has_started=True),
            3: ClusterMember((), "n1", ("http://127.0.0.1:2379", "http://é"), has_started=True),
        },
        set(),
        "3.4.0",
    )
    record = bytes.fromhex(json.loads(GOLDEN.read_text())["meta"])
    assert decode_meta(record) == replace(META, cluster=old)
    unnamed = decode_meta(record.replace(b'"n2"', b'""')).cluster.members[2**64 - 1]
    assert unnamed == ClusterMember()


def _paths(rng: random.Random) -> bytes:
    return b"/" + b"/".join(rng.choice((b"a", b"b", b"_h", b"\xff")) for _ in range(rng.randrange(1, 5)))


def random_command(rng: random.Random) -> Command:
    """Any command, often one that fails."""
    path = _paths(rng)
    ttl_s = rng.choice((-1, -1, 0, 2, 60))
    expiration_ns = 5 if ttl_s >= 0 else 0
    value = rng.choice((b"", b"v", b"\xff", b'<"\n'))
    kinds: list[Callable[[], Command]] = [
        lambda: Set(path, value, rng.random() < 0.3, ttl_s, expiration_ns, rng.random() < 0.1),
        lambda: Set(path, value),
        lambda: Create(path, value, rng.random() < 0.3, ttl_s, expiration_ns),
        lambda: CreateInOrder(path, value, rng.random() < 0.1, ttl_s, expiration_ns),
        lambda: Update(path, b"", ttl_s, expiration_ns, rng.random() < 0.3),
        lambda: CompareAndSwap(path, value, rng.choice((None, value)), rng.randrange(2), ttl_s, expiration_ns),
        lambda: Delete(path, rng.random() < 0.5, rng.random() < 0.7),
        lambda: CompareAndDelete(path, value, 0),
        Sync,
        lambda: PublishMember(rng.randrange(3), "n", (str(rng.randrange(3)),)),
        lambda: SetClusterVersion(rng.choice(("3.3.0", "3.4.0"))),
        lambda: SetHistorySize(rng.choice((30, 60, 1000))),
        lambda: RegisterFounders(tuple((member_id, "f", (f"u{member_id}",)) for member_id in range(rng.randrange(4)))),
        lambda: AddMember(rng.randrange(9), (f"u{rng.randrange(9)}",)),
        lambda: MoveMember(rng.randrange(9), (f"u{rng.randrange(9)}",)),
        lambda: RemoveMember(rng.randrange(90)),
    ]
    weights = [6, 6, 4, 2, 3, 3, 3, 1, 2, 1, 1, 1, 1, 1, 1, 1]
    return rng.choices(kinds, weights)[0]()


@pytest.mark.parametrize("with_reader", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_a_keyspace_loaded_from_its_flushes_is_the_same_and_goes_on_the_same(seed: int, with_reader: bool) -> None:
    """Flushes in slices with writes between them, each as of its beginning; then a restart, then the same log."""
    rng = random.Random(seed)
    disk = Disk()
    keyspace = Keyspace(history_reader=disk if with_reader else None)
    shadow = Keyspace()
    clock_ms = CLOCK_MS
    backlog: list[tuple[Command, int]] = []

    def write(count: int) -> None:
        nonlocal clock_ms
        for _ in range(count):
            clock_ms += rng.choice((0, 1, 700))
            command = random_command(rng)
            backlog.append((command, clock_ms))
            keyspace.apply(command, clock_ms)

    for _ in range(12):
        write(rng.randrange(60))
        pending = keyspace.begin_changes()
        for command in backlog:
            shadow.apply(*command)
        backlog.clear()
        while pending.encode_some(rng.randrange(1, 5)):
            write(rng.randrange(2))
        disk.store(pending.changes)
        if with_reader:
            keyspace.mark_durable(pending.etcd_index)
        restarted = Keyspace(history_reader=disk if with_reader else None)
        loading = restarted.begin_load(_shuffled(disk, rng))
        while loading.load_some(rng.randrange(1, 30)):
            pass
        assert_same(restarted, shadow)
        for entry in backlog:
            restarted.apply(*entry)
        assert_same(restarted, keyspace)
        if rng.random() < 0.3:
            # Go on with the restarted one, as a member does: its next flush must fit the same disk.
            keyspace = restarted


def _shuffled(disk: Disk, rng: random.Random) -> StateImage:
    nodes = list(disk.nodes.items())
    rng.shuffle(nodes)
    return StateImage(disk.meta, iter(nodes), iter(sorted(disk.history.items())))


def test_a_flush_writes_a_hot_key_once_and_nothing_that_has_gone_before_it() -> None:
    """A node that came and went between two flushes never reaches the disk."""
    keyspace = Keyspace()
    for number in range(50):
        done(keyspace, Set(b"/hot", b"%d" % number))
    done(keyspace, Set(b"/d/x/y", b"1"))
    done(keyspace, Delete(b"/d", recursive=True))
    first = take_changes(keyspace)
    assert (len(first.nodes), first.removed_nodes, len(first.history)) == (1, [], 52)
    done(keyspace, Set(b"/hot", b"last"))
    second = take_changes(keyspace)
    assert (len(second.nodes), second.removed_nodes, len(second.history)) == (1, [], 1)
    assert second.nodes[0][0] == first.nodes[0][0]
    done(keyspace, Delete(b"/hot"))
    third = take_changes(keyspace)
    assert (third.nodes, third.removed_nodes) == ([], [first.nodes[0][0]])
    fourth = take_changes(keyspace)
    assert (fourth.nodes, fourth.removed_nodes, fourth.history) == ([], [], [])


def test_the_ttl_of_a_directory_is_flushed_as_it_was_when_the_flush_began() -> None:
    """Directories alone change in place."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/d", directory=True, ttl_s=5, expiration_ns=1))
    pending = keyspace.begin_changes()
    done(keyspace, Update(b"/d", ttl_s=500, expiration_ns=2))
    while pending.encode_some():
        pass
    assert decode_node(pending.changes.nodes[0][1]).lifetime == Lifetime(CLOCK_MS + 5000, 1)
    assert decode_node(take_changes(keyspace).nodes[0][1]).lifetime == Lifetime(CLOCK_MS + 500_000, 2)


def test_an_empty_image_is_a_new_store() -> None:
    """And records without meta are nonsense."""
    keyspace = Keyspace()
    keyspace.load(StateImage(b"", iter(()), iter(())))
    assert_same(keyspace, Keyspace())
    with pytest.raises(RecordError, match="without a meta record"):
        Keyspace().load(StateImage(b"", iter([(encode_key(7), b"")]), iter(())))


def _stored() -> Disk:
    keyspace = Keyspace()
    done(keyspace, Set(b"/a/b/c", b"1"))
    done(keyspace, Set(b"/f", b"1"))
    disk = Disk()
    disk.store(take_changes(keyspace))
    return disk


def _node(parent_id: int, name: bytes, *, created: int = 1, modified: int = 1, directory: bool = False) -> bytes:
    parent = Directory(parent_id, None, b"", 0, None)
    if directory:
        return encode_node(Directory(1, parent, name, created, None))
    return encode_node(File(1, parent, name, created, modified, None, b'""', None))


NONSENSE: dict[str, tuple[bytes, bytes]] = {
    "parent missing": (encode_key(2), _node(99, b"x")),
    "parent is a file": (encode_key(1 << 44 | 2), _node(2, b"x", created=2, modified=2)),
    "name doubled": (encode_key(3 << 44 | 1), _node(0, b"f")),
    "modified beyond the index": (encode_key(3 << 44 | 1), _node(0, b"x", modified=3)),
    "created after modified": (encode_key(3 << 44 | 1), _node(0, b"x", created=2)),
    "created before its id": (encode_key(3 << 44 | 2), _node(0, b"x")),
    "its own parent": (encode_key(3 << 44 | 1), _node(3 << 44 | 1, b"x", directory=True)),
    "older than its directory": (encode_key(4 << 44 | 1), _node(1 << 44 | 1, b"x")),
    "the root's id": (encode_key(0), _node(0, b"x")),
    "short key": (b"\x01", _node(0, b"x")),
    "empty name": (encode_key(3 << 44 | 1), _node(0, b"")),
    "slash in name": (encode_key(3 << 44 | 1), _node(0, b"a/b")),
    "later version": (encode_key(3 << 44 | 1), b"\x02" + _node(0, b"x")[1:]),
    "cut off": (encode_key(3 << 44 | 1), _node(0, b"x")[:-2]),
    "cut in the header": (encode_key(3 << 44 | 1), _node(0, b"x")[:9]),
    "unknown flags": (encode_key(3 << 44 | 1), _node(0, b"x")[:1] + b"\x80" + _node(0, b"x")[2:]),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nodes_that_make_no_tree_are_refused(name: str) -> None:
    """A member must not serve what cannot be; the order of records does not matter."""
    key, record = NONSENSE[name]
    disk = _stored()
    for nodes in ([*disk.nodes.items(), (key, record)], [(key, record), *disk.nodes.items()]):
        with pytest.raises(RecordError):
            Keyspace().load(StateImage(disk.meta, iter(nodes), iter(sorted(disk.history.items()))))


def test_a_doubled_node_is_refused() -> None:
    """Even when the copy has another name."""
    disk = _stored()
    key = next(key for key in disk.nodes if decode_key(key) == 2)
    nodes = [*disk.nodes.items(), (key, _node(0, b"g"))]
    with pytest.raises(RecordError, match="doubled"):
        Keyspace().load(StateImage(disk.meta, iter(nodes), iter(sorted(disk.history.items()))))


@pytest.mark.parametrize("has_reader", [False, True])
@pytest.mark.parametrize("drop", [slice(0, 1), slice(1, 2), slice(-1, None), slice(0, None)])
def test_a_history_with_a_gap_is_refused(drop: slice, has_reader: bool) -> None:
    """It has every index from its floor on, also where only the newest are taken into memory."""
    disk = _stored()
    history = sorted(disk.history.items())
    del history[drop]
    keyspace = Keyspace(history_reader=disk if has_reader else None)
    with pytest.raises(RecordError, match=r"belongs|does not lead up"):
        keyspace.load(StateImage(disk.meta, iter(disk.nodes.items()), iter(history)))


@pytest.mark.parametrize(
    "record",
    [
        b"\x01{}",
        b"\x01[",
        b"\x04" + encode_meta(META)[1:],
        encode_meta(META).replace(b'"removed_ids"', b'"removed"'),
        encode_meta(META).replace(b'"history_floor":17', b'"history_floor":301'),
        encode_meta(META).replace(b'"history_events_max":1000', b'"history_events_max":0'),
        encode_meta(META).replace(b"0001", b"00", 1),
        encode_meta(META).replace(b'"members":[[', b'"members":[['[:-1] + b"7,["),
        encode_meta(META).replace(b'"history_floor":17', b'"history_floor":1e400'),
        b"\x01" + b"[" * 20_000,
    ],
)
def test_meta_that_no_version_wrote_is_refused(record: bytes) -> None:
    """Named as such, whatever is wrong."""
    with pytest.raises(RecordError, match="meta record"):
        decode_meta(record)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: record[:20],
        lambda record: b"\x07" + record[1:],
        lambda record: record[:1] + b"\x63" + record[2:],
        lambda record: record[:2] + b"\xff\xff" + record[4:],
        lambda record: record[:4] + b"\xff\xff\xff\x00" + record[8:],
    ],
)
def test_history_records_that_no_version_wrote_are_refused(spoil: Callable[[bytes], bytes]) -> None:
    """Short, of another version, with an unknown action, flags or length."""
    with pytest.raises(RecordError, match="history record"):
        decode_event(12, spoil(encode_event(EVENTS["set"])))
