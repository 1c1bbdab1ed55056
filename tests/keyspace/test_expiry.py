"""TTL by the log's clock: never early, in one order, one index each (design decision 7)."""

import random

import pytest

from kvraft.keyspace.commands import Create, Delete, Set, Sync, Update
from kvraft.keyspace.errors import ErrorCode
from kvraft.keyspace.events import Action, Event, NodeView
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.store import SYNC_EXPIRES_MAX
from kvraft.keyspace.views import TTL_S_MAX
from tests.keyspace.helpers import CLOCK_MS, acknowledged, done, not_found, watch


def expired(keyspace: Keyspace, first_index: int) -> list[bytes]:
    """Paths of the expire events from an index on."""
    events = keyspace.history.read(first_index, 10_000)
    assert all(event.action is Action.EXPIRE for event in events)
    return [event.node.path for event in events]


@pytest.mark.parametrize(("ttl_s", "early_ms"), [(1, 999), (30, 29_999), (0, -1)])
def test_a_key_expires_at_its_deadline_and_not_before(ttl_s: int, early_ms: int) -> None:
    """The deadline is the entry's clock plus the TTL; 0 goes with the next sync."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/a", b"1", ttl_s=ttl_s, expiration_ns=5))
    assert keyspace.next_deadline_ms() == CLOCK_MS + early_ms + 1
    assert acknowledged(keyspace, Sync(), CLOCK_MS + early_ms) == 0
    assert keyspace.etcd_index == 1
    assert acknowledged(keyspace, Sync(), CLOCK_MS + early_ms + 1) == 1
    assert keyspace.etcd_index == 2
    assert keyspace.next_deadline_ms() is None


def test_the_expire_event_shows_the_node_that_was() -> None:
    """`prevNode` with its expiration and what the ttl was then; the node itself without a value."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/a", b"1", ttl_s=1, expiration_ns=5))
    done(keyspace, Set(b"/d/x", b"1"))
    done(keyspace, Update(b"/d", ttl_s=1, expiration_ns=6))
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 2500) == 2
    gone, gone_directory = keyspace.history.read(4, 9)
    assert gone == Event(
        Action.EXPIRE,
        NodeView(b"/a", False, None, 0, 0, 4, 1),
        NodeView(b"/a", False, b'"1"', -1, 5, 1, 1),
        refresh=False,
    )
    assert gone_directory == Event(
        Action.EXPIRE,
        NodeView(b"/d", True, None, 0, 0, 5, 2),
        NodeView(b"/d", True, None, -1, 6, 2, 2),
        refresh=False,
    )
    assert keyspace.stats.expire_count == 2


def test_due_nodes_go_by_deadline_then_created_index_then_path() -> None:
    """The same on every member, whatever the order of writing."""
    keyspace = Keyspace()
    done(keyspace, Create(b"/b/c", b"", ttl_s=5, expiration_ns=1))
    done(keyspace, Create(b"/late", b"", ttl_s=6, expiration_ns=1))
    done(keyspace, Create(b"/early", b"", ttl_s=4, expiration_ns=1))
    done(keyspace, Create(b"/a", b"", ttl_s=5, expiration_ns=1))
    done(keyspace, Update(b"/b", ttl_s=5, expiration_ns=1))
    first = keyspace.etcd_index + 1
    # `/b` and `/b/c` were created by one command; the directory comes first and takes the file with it.
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 6000) == 4
    assert expired(keyspace, first) == [b"/early", b"/b", b"/a", b"/late"]


def test_an_expiring_directory_takes_everything_below_in_one_event() -> None:
    """Its children's own deadlines mean nothing any more."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/d", directory=True, ttl_s=1, expiration_ns=1))
    done(keyspace, Set(b"/d/x", b"1", ttl_s=2, expiration_ns=1))
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 9000) == 1
    assert expired(keyspace, 3) == [b"/d"]
    assert keyspace.next_deadline_ms() is None


def test_a_directory_refreshed_just_before_its_deadline_stays() -> None:
    """Also when a sync within the same second has already looked at it; directories change in place."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/d", directory=True, ttl_s=1, expiration_ns=1), CLOCK_MS + 500)
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 1400) == 0
    done(keyspace, Update(b"/d", ttl_s=1, expiration_ns=1), CLOCK_MS + 1450)
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 1500) == 0
    assert keyspace.next_deadline_ms() == CLOCK_MS + 2450
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 2450) == 1


def test_a_removed_directory_takes_its_deadlines_with_it_at_once() -> None:
    """Although its nodes are taken apart only a slice at a time: no sync is proposed for them."""
    keyspace = Keyspace()
    for number in range(1000):
        done(keyspace, Set(b"/d/%d" % number, b"1", ttl_s=1, expiration_ns=1))
    done(keyspace, Set(b"/other", b"1", ttl_s=9, expiration_ns=1))
    assert keyspace.next_deadline_ms() == CLOCK_MS + 1000
    done(keyspace, Delete(b"/d", recursive=True))
    assert keyspace.next_deadline_ms() == CLOCK_MS + 9000
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 5000) == 0


def test_a_refresh_before_the_sync_in_the_log_wins() -> None:
    """What is due is decided when the Sync is applied, not when it was proposed."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/a", b"1", ttl_s=1, expiration_ns=1))
    done(keyspace, Update(b"/a", ttl_s=1, expiration_ns=1, refresh=True), CLOCK_MS + 1000)
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 1000) == 0
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 2000) == 1


@pytest.mark.parametrize("permanent", [Set(b"/a", b"2"), Update(b"/a", b"2")])
def test_a_write_without_ttl_makes_permanent(permanent: Set | Update) -> None:
    """Set replaces the node, Update drops the TTL."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/a", b"1", ttl_s=1, expiration_ns=1))
    done(keyspace, permanent)
    assert keyspace.next_deadline_ms() is None
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 9000) == 0


def test_a_key_created_again_lives_by_its_own_deadline() -> None:
    """The old key's deadline means nothing, also when a sync has met it already."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/a", b"1", ttl_s=1, expiration_ns=1))
    done(keyspace, Set(b"/b", b"1", ttl_s=1, expiration_ns=1), CLOCK_MS + 500)
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 1000) == 1
    done(keyspace, Delete(b"/b"), CLOCK_MS + 1000)
    done(keyspace, Set(b"/b", b"1", ttl_s=5, expiration_ns=1), CLOCK_MS + 1000)
    assert keyspace.next_deadline_ms() == CLOCK_MS + 6000
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 5999) == 0
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 6000) == 1


def test_a_ttl_that_overflows_saturates() -> None:
    """Where etcd wraps around and expires at once or never, it is 292 years here (a documented difference)."""
    keyspace = Keyspace()
    event = done(keyspace, Set(b"/a", b"1", ttl_s=2**64 - 1, expiration_ns=2**63 - 1))
    assert event.node.ttl_s == TTL_S_MAX
    assert keyspace.next_deadline_ms() == CLOCK_MS + TTL_S_MAX * 1000


def test_one_sync_expires_a_bounded_number_and_the_next_goes_on() -> None:
    """A hundred thousand keys due at once must not hold the loop; what is left is still due."""
    keyspace = Keyspace()
    extra = 10
    for number in range(SYNC_EXPIRES_MAX + extra):
        keyspace.apply(Set(b"/k/%d" % number, b"", ttl_s=1, expiration_ns=1), CLOCK_MS)
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 1000) == SYNC_EXPIRES_MAX
    assert keyspace.next_deadline_ms() == CLOCK_MS + 1000
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 1000) == extra
    assert keyspace.next_deadline_ms() is None


@pytest.mark.parametrize("seed", range(20))
def test_what_expires_and_when_agrees_with_a_plain_list(seed: int) -> None:
    """Random writes, refreshes, removals of directories and syncs against a dictionary that is searched in full."""
    rng = random.Random(seed)
    keyspace = Keyspace()
    model: dict[bytes, tuple[int, int]] = {}
    clock_ms = CLOCK_MS
    for _ in range(600):
        clock_ms += rng.choice((0, 0, 1, 10, 400, 1500))
        path = b"/%d/%d" % (rng.randrange(4), rng.randrange(8))
        action = rng.randrange(10)
        ttl_s = rng.choice((-1, 0, 1, 1, 2, 7))
        if action < 5:
            created = done(keyspace, Set(path, b"v", ttl_s=ttl_s, expiration_ns=1), clock_ms).node.created_index
            model.pop(path, None)
        elif action == 5 and not_found_free(keyspace, path):
            created = done(keyspace, Update(path, b"v", ttl_s=ttl_s, expiration_ns=1), clock_ms).node.created_index
            model.pop(path, None)
        elif action == 6:
            directory = path[:2]
            keyspace.apply(Delete(directory, recursive=True), clock_ms)
            model = {key: value for key, value in model.items() if not key.startswith(directory + b"/")}
            continue
        else:
            due = sorted((deadline, made, key) for key, (deadline, made) in model.items() if deadline <= clock_ms)
            first = keyspace.etcd_index + 1
            assert acknowledged(keyspace, Sync(), clock_ms) == len(due)
            if due:
                assert expired(keyspace, first) == [key for _, _, key in due]
            model = {key: value for key, value in model.items() if value[0] > clock_ms}
            assert keyspace.next_deadline_ms() == min((deadline for deadline, _ in model.values()), default=None)
            continue
        if ttl_s >= 0:
            model[path] = (clock_ms + ttl_s * 1000, created)


def not_found_free(keyspace: Keyspace, path: bytes) -> bool:
    """Whether the path exists."""
    return any(view.path == path for view in keyspace.nodes())


def test_watchers_below_an_expiring_directory_are_told() -> None:
    """As with a removal, whoever watched a node that existed gets the directory's event."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/d", directory=True, ttl_s=1, expiration_ns=1))
    done(keyspace, Set(b"/d/x", b"1"))
    there = watch(keyspace.watchers, b"/d/x")
    nowhere = watch(keyspace.watchers, b"/d/y")
    acknowledged(keyspace, Sync(), CLOCK_MS + 1000)
    assert [event.action for event in there.events] == [Action.EXPIRE]
    assert nowhere.events == []
    assert not_found(keyspace, b"/d/x") == (ErrorCode.KEY_NOT_FOUND, b"/d", 3)
