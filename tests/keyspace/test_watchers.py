"""Watches: contract A.7, with etcd's bugs a to f fixed, and none of its own."""

import random
from collections.abc import Iterator

import pytest

from kvraft.keyspace import watchers
from kvraft.keyspace.commands import (
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    Delete,
    PublishMember,
    Set,
    SetHistorySize,
    Sync,
    Update,
)
from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.keyspace.events import Action, Event
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.watchers import CloseReason, Watcher
from tests.keyspace.flushes import take_changes
from tests.keyspace.helpers import CLOCK_MS, Disk, Seen, done, watch


@pytest.fixture
def keyspace() -> Keyspace:
    """A new keyspace with a history of everything."""
    return Keyspace()


def test_a_watch_gets_the_next_event_on_its_path_and_is_over(keyspace: Keyspace) -> None:
    """One-shot, waitIndex absent."""
    done(keyspace, Set(b"/a", b"0"))
    seen = watch(keyspace.watchers, b"/a", stream=False)
    assert seen.watcher is not None
    assert seen.watcher.start_index == 1
    assert keyspace.watchers.count == 1
    event = done(keyspace, Set(b"/a", b"1"))
    done(keyspace, Set(b"/a", b"2"))
    assert seen.events == [event]
    assert (seen.watcher.open, seen.closed, keyspace.watchers.count) == (False, [], 0)


def test_an_index_in_the_history_is_answered_at_once_with_the_first_match(keyspace: Keyspace) -> None:
    """Nothing is delivered inside watch() itself, so that headers leave first."""
    events = [done(keyspace, Set(path, b"1")) for path in (b"/a", b"/b", b"/a", b"/a")]
    seen = Seen()
    watcher = keyspace.watchers.watch(
        b"/a", recursive=False, stream=False, since_index=2, on_event=seen.on_event, on_close=None
    )
    assert isinstance(watcher, Watcher)
    assert (seen.events, watcher.live, watcher.start_index) == ([], False, 4)
    seen.watcher = watcher
    assert watcher.catch_up() is False
    assert seen.events == [events[2]]
    assert not watcher.open


def test_an_index_in_the_future_waits_for_it(keyspace: Keyspace) -> None:
    """Earlier events are not for this watch."""
    seen = watch(keyspace.watchers, b"/a", since_index=3)
    for value in (b"1", b"2", b"3", b"4"):
        done(keyspace, Set(b"/a", value))
    assert seen.indices == [3, 4]


def test_a_cleared_index_is_401_with_floor_and_index(keyspace: Keyspace) -> None:
    """The floor is exactly etcd's: the oldest of the last N events over all keys, internal ones included."""
    keyspace.apply(PublishMember(1, "n", ()), CLOCK_MS)
    keyspace.apply(SetHistorySize(1000), CLOCK_MS)
    for number in range(1222):
        done(keyspace, Set(b"/k", b"%d" % number))
    answer = keyspace.watchers.watch(b"/wb", recursive=False, stream=False, since_index=5, on_event=lambda _: None)
    assert isinstance(answer, EtcdError)
    assert (answer.code, answer.cause, answer.index) == (
        ErrorCode.EVENT_INDEX_CLEARED,
        b"the requested history has been cleared [225/5]",
        1224,
    )
    assert isinstance(
        keyspace.watchers.watch(b"/wb", recursive=False, stream=False, since_index=225, on_event=lambda _: None),
        Watcher,
    )


def test_a_recursive_watch_sees_below_and_a_plain_one_does_not(keyspace: Keyspace) -> None:
    """Parents made on the way fire nothing; a directory's own TTL update does."""
    recursive = watch(keyspace.watchers, b"/d", recursive=True)
    plain = watch(keyspace.watchers, b"/d")
    middle = watch(keyspace.watchers, b"/d/x")
    root = watch(keyspace.watchers, b"/", recursive=True)
    plain_root = watch(keyspace.watchers, b"/")
    sibling = watch(keyspace.watchers, b"/dX", recursive=True)
    done(keyspace, Set(b"/d/x/y", b"1"))
    done(keyspace, Update(b"/d", ttl_s=300, expiration_ns=1))
    assert (recursive.indices, plain.indices, middle.indices) == ([1, 2], [2], [])
    assert (root.indices, plain_root.indices, sibling.indices) == ([1, 2], [], [])


def _hidden_commands() -> list[Command]:
    return [Set(b"/_hid/x", b"1"), Set(b"/hv/_k", b"1"), Set(b"/hv/_d/k", b"1"), Delete(b"/_hid", recursive=True)]


HIDDEN_SEEN = {
    (b"/", True): [],
    (b"/_hid", True): [1, 4],
    (b"/_hid", False): [4],
    (b"/_hid/x", False): [1, 4],
    (b"/hv", True): [],
    (b"/hv/_d", True): [3],
    (b"/hv/_k", True): [2],
    (b"/hv/_d/k", False): [3],
}


@pytest.mark.parametrize(("path", "recursive"), HIDDEN_SEEN)
@pytest.mark.parametrize("live", [True, False], ids=["live", "history"])
def test_hidden_is_what_lies_behind_an_underscore_after_the_watch_point(
    keyspace: Keyspace, path: bytes, recursive: bool, live: bool
) -> None:
    """The same in live events and in the history, where etcd forgets the rule (A.7 d)."""
    if live:
        seen = watch(keyspace.watchers, path, recursive=recursive)
    for command in _hidden_commands():
        done(keyspace, command)
    if not live:
        seen = watch(keyspace.watchers, path, 1, recursive=recursive)
    assert seen.indices == HIDDEN_SEEN[path, recursive]


def test_a_removed_directory_reaches_watchers_that_sat_on_nodes_below(keyspace: Keyspace) -> None:
    """Also on hidden ones; not watchers of what did not exist, and nobody twice (A.7 a)."""
    for path in (b"/we/a/b", b"/we/_h/x", b"/weX"):
        done(keyspace, Set(path, b"1"))
    told = [
        watch(keyspace.watchers, path, recursive=recursive)
        for path in (b"/we", b"/we/a", b"/we/a/b", b"/we/_h/x")
        for recursive in (False, True)
    ]
    told.append(watch(keyspace.watchers, b"/", recursive=True))
    spared = [
        watch(keyspace.watchers, path, recursive=True) for path in (b"/we/a/zzz", b"/we/a/b/c", b"/weX", b"/we/q/r")
    ]
    event = done(keyspace, Delete(b"/we", recursive=True))
    assert [seen.events for seen in told] == [[event]] * len(told)
    assert [seen.events for seen in spared] == [[]] * len(spared)


@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize("path", [b"/ws", b"/"])
def test_a_stream_sees_each_delete_once(keyspace: Keyspace, path: bytes, recursive: bool) -> None:
    """Where etcd delivers it twice to a stream on the key itself (A.7 a)."""
    done(keyspace, Set(b"/ws", b"1"))
    seen = watch(keyspace.watchers, path, recursive=recursive)
    done(keyspace, Delete(b"/ws"))
    assert seen.indices == ([] if path == b"/" and not recursive else [2])


def test_a_stream_from_the_history_goes_on_live(keyspace: Keyspace) -> None:
    """Where etcd delivers one event and then nothing ever again (A.7 b)."""
    for value in (b"1", b"2"):
        done(keyspace, Set(b"/wst", value))
    seen = watch(keyspace.watchers, b"/wst", 1)
    assert seen.indices == [1, 2]
    done(keyspace, Set(b"/wst", b"3"))
    assert seen.indices == [1, 2, 3]


def test_history_matches_whole_path_components(keyspace: Keyspace) -> None:
    """Where etcd takes the delete of `/pre` for one of `/prefixother` (A.7 e)."""
    done(keyspace, Set(b"/pre/a", b"1"))
    done(keyspace, Delete(b"/pre", recursive=True))
    assert watch(keyspace.watchers, b"/prefixother", 1).indices == []
    assert watch(keyspace.watchers, b"/prefixother", 1, recursive=True).indices == []
    assert watch(keyspace.watchers, b"/pre/a", 2).indices == [2]
    assert watch(keyspace.watchers, b"/pre/never", 2).indices == [2], "nobody remembers what existed, as in etcd"


def test_a_recursive_scan_of_the_history_sees_the_watched_key_itself(keyspace: Keyspace) -> None:
    """Where etcd 2.3 spoils the key while it scans (A.7 f)."""
    done(keyspace, Set(b"/other", b"1"))
    done(keyspace, Set(b"/k", directory=True))
    assert watch(keyspace.watchers, b"/k", 1, recursive=True).indices == [2]


def test_refreshes_and_internal_events_are_invisible_live_and_in_the_history(keyspace: Keyspace) -> None:
    """They take an index each."""
    live = watch(keyspace.watchers, b"/", recursive=True)
    done(keyspace, Set(b"/wr", b"1", ttl_s=100, expiration_ns=1))
    done(keyspace, Update(b"/wr", ttl_s=100, expiration_ns=1, refresh=True))
    done(keyspace, Set(b"/wr", ttl_s=100, expiration_ns=1, refresh=True))
    done(keyspace, CompareAndSwap(b"/wr", prev_value=b"1", ttl_s=100, expiration_ns=1, refresh=True))
    keyspace.apply(PublishMember(1, "n", ()), CLOCK_MS)
    done(keyspace, CompareAndSwap(b"/wr", b"9", prev_value=b"1"))
    done(keyspace, CompareAndDelete(b"/wr", b"9"))
    assert live.indices == [1, 7, 8]
    assert watch(keyspace.watchers, b"/", 1, recursive=True).events == live.events
    assert watch(keyspace.watchers, b"/wr", 2).indices == [7, 8]


def test_a_slow_consumer_goes_on_from_the_history_and_others_are_not_held_up(keyspace: Keyspace) -> None:
    """Where etcd drops events and says nothing (A.7 c). It is given a little at a time, and everything in the end."""
    slow = watch(keyspace.watchers, b"/", recursive=True)
    slow.consuming = False
    fast = watch(keyspace.watchers, b"/", recursive=True)
    for _ in range(60):
        done(keyspace, Set(b"/big", b"x" * 20_000))
    assert 1 < len(slow.events) < 5
    assert fast.indices == list(range(1, 61))
    assert slow.watcher is not None
    while not slow.watcher.live:
        assert slow.watcher.unconsumed_bytes <= watchers.WATCHER_BYTES_MAX
        slow.watcher.consumed()
        slow.catch_up()
    slow.watcher.consumed()
    done(keyspace, Set(b"/big", b"2"))
    assert (slow.indices, slow.closed) == (list(range(1, 62)), [])


def test_a_slow_consumer_is_closed_visibly_when_the_history_has_moved_on(keyspace: Keyspace) -> None:
    """What was delivered until then is a whole prefix."""
    keyspace.apply(SetHistorySize(50), CLOCK_MS)
    slow = watch(keyspace.watchers, b"/", recursive=True)
    slow.consuming = False
    for _ in range(60):
        done(keyspace, Set(b"/big", b"x" * 20_000))
    assert slow.closed == []
    assert slow.watcher is not None
    slow.watcher.consumed()
    slow.catch_up()
    assert slow.closed == [CloseReason.CLEARED]
    assert slow.indices == list(range(1, len(slow.events) + 1))
    assert keyspace.watchers.count == 0


def test_one_event_above_the_limit_is_still_delivered(keyspace: Keyspace) -> None:
    """A 10 MiB value must reach its watchers."""
    seen = watch(keyspace.watchers, b"/big")
    seen.consuming = False
    done(keyspace, Set(b"/big", b"x" * (2 * watchers.WATCHER_BYTES_MAX)))
    assert seen.indices == [1]
    assert seen.closed == []


def test_catching_up_waits_for_a_slow_consumer_instead_of_closing_it(keyspace: Keyspace) -> None:
    """There the hub decides how fast events come."""
    for _ in range(200):
        done(keyspace, Set(b"/big", b"x" * 20_000))
    seen = Seen(consuming=False)
    watcher = keyspace.watchers.watch(
        b"/big", recursive=False, stream=True, since_index=1, on_event=seen.on_event, on_close=seen.closed.append
    )
    assert isinstance(watcher, Watcher)
    seen.watcher = watcher
    rounds = 0
    while not watcher.live:
        seen.catch_up()
        assert watcher.unconsumed_bytes <= watchers.WATCHER_BYTES_MAX
        watcher.consumed()
        rounds += 1
    assert rounds > 3
    assert (seen.indices, seen.closed) == (list(range(1, 201)), [])


def test_a_watcher_that_the_floor_overtakes_is_closed(keyspace: Keyspace) -> None:
    """It could not go on without a gap."""
    keyspace.apply(SetHistorySize(50), CLOCK_MS)
    for _ in range(40):
        done(keyspace, Set(b"/a", b"1"))
    seen = Seen()
    watcher = keyspace.watchers.watch(
        b"/a", recursive=False, stream=True, since_index=1, on_event=seen.on_event, on_close=seen.closed.append
    )
    assert isinstance(watcher, Watcher)
    seen.watcher = watcher
    assert watcher.catch_up(10)
    for _ in range(100):
        done(keyspace, Set(b"/a", b"1"))
    assert watcher.catch_up(10) is False
    assert seen.closed == [CloseReason.CLEARED]
    assert seen.indices == list(range(1, 11))


def test_cancel_is_final_and_harmless_twice(keyspace: Keyspace) -> None:
    """Also while catching up, and the trie keeps nothing of it."""
    done(keyspace, Set(b"/a/b", b"1"))
    live = watch(keyspace.watchers, b"/a/b/c/d")
    behind = keyspace.watchers.watch(b"/a", recursive=True, stream=True, since_index=1, on_event=lambda _: None)
    assert isinstance(behind, Watcher)
    for watcher in (live.watcher, behind, live.watcher):
        assert watcher is not None
        watcher.cancel()
    assert behind.catch_up() is False
    done(keyspace, Set(b"/a/b", b"1"))
    assert (live.events, live.closed, keyspace.watchers.count) == ([], [], 0)
    assert keyspace.watchers._root.children == {}


def test_callbacks_may_cancel_others_and_open_watches(keyspace: Keyspace) -> None:
    """The one cancelled is not told of the event that is being delivered; the new one begins behind it."""
    late: list[Seen] = []
    second = Seen()

    def first_told(event: Event) -> None:
        assert second.watcher is not None
        second.watcher.cancel()
        late.append(watch(keyspace.watchers, b"/a"))
        late.append(watch(keyspace.watchers, b"/a", event.etcd_index))

    keyspace.watchers.watch(b"/a", recursive=False, stream=False, since_index=0, on_event=first_told)
    opened = keyspace.watchers.watch(b"/a", recursive=False, stream=True, since_index=0, on_event=second.on_event)
    assert isinstance(opened, Watcher)
    second.watcher = opened
    done(keyspace, Set(b"/a", b"1"))
    done(keyspace, Set(b"/a", b"2"))
    assert second.events == []
    assert [seen.indices for seen in late] == [[2], [1, 2]]


def test_a_callback_that_asks_for_more_gets_nothing_twice(keyspace: Keyspace) -> None:
    """A transport may report room for more while it is being given an event."""
    for _ in range(5):
        done(keyspace, Set(b"/a", b"1"))
    told: list[int] = []

    def on_event(event: Event) -> None:
        told.append(event.etcd_index)
        assert isinstance(watcher, Watcher)
        watcher.consumed()
        assert watcher.catch_up() is False

    watcher = keyspace.watchers.watch(b"/a", recursive=False, stream=True, since_index=1, on_event=on_event)
    assert isinstance(watcher, Watcher)
    assert watcher.catch_up() is False
    done(keyspace, Set(b"/a", b"1"))
    assert told == [1, 2, 3, 4, 5, 6]


@pytest.mark.pure
def test_an_event_costs_its_depth_not_the_number_of_watchers(keyspace: Keyspace) -> None:
    """Ten thousand watchers elsewhere are not looked at: counted by attribute reads, not by a clock."""
    for number in range(10_000):
        watch(keyspace.watchers, b"/w/%d" % number)
    seen = watch(keyspace.watchers, b"/w/5/deep", recursive=True)
    looked_at: list[bytes] = []
    original = keyspace.watchers.deliver

    def deliver(watcher: Watcher, event: Event, size: int) -> None:
        looked_at.append(watcher.path)
        original(watcher, event, size)

    keyspace.watchers.deliver = deliver  # type: ignore[method-assign] # a spy in front of the method
    done(keyspace, Set(b"/w/5/deep/er", b"1"))
    assert looked_at == [b"/w/5/deep"]
    assert seen.indices == [1]


def _paths(rng: random.Random) -> bytes:
    return b"/" + b"/".join(rng.choice((b"a", b"b", b"_h", b"ab")) for _ in range(rng.randrange(1, 4)))


def _commands(rng: random.Random) -> Iterator[tuple[Command, int]]:
    clock_ms = CLOCK_MS
    while True:
        clock_ms += rng.choice((0, 0, 100, 1000))
        path = _paths(rng)
        ttl_s = rng.choice((-1, -1, -1, 0, 2))
        yield (
            rng.choice(
                (
                    Set(path, b"%d" % rng.randrange(3), rng.random() < 0.2, ttl_s, 1 if ttl_s >= 0 else 0),
                    Set(path, b"1"),
                    Create(path, b"1"),
                    Update(path, b"2"),
                    Update(path, ttl_s=2, expiration_ns=1, refresh=True),
                    CompareAndSwap(path, b"2", prev_value=b"1"),
                    CompareAndDelete(path, b"2"),
                    Delete(path, recursive=rng.random() < 0.7),
                    Sync(),
                    PublishMember(1, str(rng.randrange(3)), ()),
                )
            ),
            clock_ms,
        )


class Oracle:
    """Knows every event and every node, and says what a watch must be told."""

    def __init__(self, keyspace: Keyspace) -> None:
        self.keyspace = keyspace
        self.events: list[Event] = []
        self.existed: list[set[bytes]] = [set()]
        """Paths that existed before the event of index i + 1."""

    def apply(self, command: Command, clock_ms: int) -> None:
        """Apply, and read what happened from the history."""
        before = {view.path for view in self.keyspace.nodes()}
        index = self.keyspace.etcd_index
        self.keyspace.apply(command, clock_ms)
        for event in self.keyspace.history.read(index + 1, 1000):
            self.existed.append(set(before))
            self.events.append(event)
            if event.action in (Action.DELETE, Action.EXPIRE, Action.COMPARE_AND_DELETE):
                below = event.node.path + b"/"
                before = {path for path in before if path != event.node.path and not path.startswith(below)}

    def wanted(self, path: bytes, recursive: bool, since_index: int, live_from: int) -> list[int]:
        """Indices for a watch that was live from `live_from` on and read the history before."""
        indices = []
        for event in self.events:
            index, key = event.etcd_index, event.node.path
            if index < since_index or event.refresh:
                continue
            components, watched = key.split(b"/")[1:], (path.split(b"/")[1:] if path != b"/" else [])
            rest = components[len(watched) :]
            if components == watched:
                wants = True
            elif recursive and components[: len(watched)] == watched:
                wants = not any(name.startswith(b"_") for name in rest)
            else:
                removed = event.action in (Action.DELETE, Action.EXPIRE) and event.node.directory
                below = watched[: len(components)] == components
                wants = removed and below and (index < live_from or path in self.existed[index])
            if wants:
                indices.append(index)
        return indices


@pytest.mark.parametrize("seed", range(40))
def test_every_watch_is_told_exactly_what_an_oracle_says(seed: int) -> None:
    """Ordered, unique, complete; history in slices between writes, then live, resumed where another one stopped."""
    rng = random.Random(seed)
    disk = Disk()
    keyspace = Keyspace(history_reader=disk)
    oracle = Oracle(keyspace)
    commands = _commands(rng)
    watches: list[tuple[Seen, int, int]] = []
    catching_up: list[tuple[Seen, int]] = []
    for _ in range(300):
        oracle.apply(*next(commands))
        if rng.random() < 0.05:
            pending = keyspace.begin_changes()
            while pending.encode_some(3):
                pass
            disk.store(pending.changes)
            keyspace.mark_durable(pending.etcd_index)
        if rng.random() < 0.2:
            seen = Seen()
            since = rng.choice((0, rng.randrange(1, keyspace.etcd_index + 2)))
            path = rng.choice((b"/", _paths(rng), _paths(rng)))
            watcher = keyspace.watchers.watch(
                path,
                recursive=rng.random() < 0.6,
                stream=True,
                since_index=since,
                on_event=seen.on_event,
                on_close=seen.closed.append,
            )
            assert isinstance(watcher, Watcher)
            seen.watcher = watcher
            since = since or keyspace.etcd_index + 1
            if watcher.live:
                watches.append((seen, since, keyspace.etcd_index + 1))
            else:
                catching_up.append((seen, since))
        for seen, since in list(catching_up):
            assert seen.watcher is not None
            if rng.random() < 0.5 and not seen.watcher.catch_up(rng.randrange(1, 9)):
                catching_up.remove((seen, since))
                watches.append((seen, since, keyspace.etcd_index + 1))
    for seen, since in catching_up:
        seen.catch_up()
        watches.append((seen, since, keyspace.etcd_index + 1))
    assert len(watches) > 30
    for seen, since, live_from in watches:
        assert seen.watcher is not None
        watcher = seen.watcher
        wanted = oracle.wanted(watcher.path, watcher.recursive, since, live_from)
        assert seen.indices == wanted, (seed, watcher.path, watcher.recursive, since, live_from)
        assert seen.closed == []
        for event in seen.events:
            assert event == oracle.events[event.etcd_index - 1]


@pytest.mark.parametrize("seed", range(20))
def test_live_watches_go_on_across_a_snapshot_install(seed: int) -> None:
    """They get everything between their last event and the installed index from its history, then what follows."""
    rng = random.Random(seed)
    follower = Keyspace()
    leader = Keyspace()
    leader_disk = Disk()
    oracle = Oracle(leader)
    commands = _commands(rng)
    watches = [
        watch(follower.watchers, rng.choice((b"/", _paths(rng))), rng.choice((0, 100)), recursive=True)
        for _ in range(10)
    ]
    for _ in range(60):
        command, clock_ms = next(commands)
        oracle.apply(command, clock_ms)
        follower.apply(command, clock_ms)
    left_at = follower.etcd_index
    for _ in range(100):
        oracle.apply(*next(commands))
    leader_disk.store(take_changes(leader))
    installed = Keyspace(history_reader=leader_disk)
    installed.load(leader_disk.image())
    installed.succeed(follower)
    late = watch(installed.watchers, b"/", recursive=True)
    while installed.watchers.catch_up(rng.randrange(1, 20)):
        command, clock_ms = next(commands)
        oracle.apply(command, clock_ms)
        installed.apply(command, clock_ms)
    installed_at = leader.etcd_index + 1
    for _ in range(30):
        command, clock_ms = next(commands)
        oracle.apply(command, clock_ms)
        installed.apply(command, clock_ms)
    assert installed.state_hash == leader.state_hash
    for seen in watches:
        assert seen.watcher is not None
        since = seen.watcher._next_index
        wanted = [
            index
            for index in oracle.wanted(seen.watcher.path, True, since, installed_at)
            # Before and after the gap only watchers on nodes that existed are told of a removed directory.
            if left_at < index < installed_at or index in oracle.wanted(seen.watcher.path, True, since, 0)
        ]
        assert seen.indices == wanted
        assert seen.closed == []
    assert late.indices == [
        index for index in oracle.wanted(b"/", True, 0, 0) if index > leader_disk_index(leader_disk)
    ]


def leader_disk_index(disk: Disk) -> int:
    """The etcd_index of the newest stored event."""
    return int.from_bytes(max(disk.history), "big")


def test_an_install_beyond_the_floor_closes_who_would_miss_something() -> None:
    """And leaves those who only wait for what is still to come."""
    leader = Keyspace(history_events_max=10)
    follower = Keyspace()
    done(follower, Set(b"/a", b"1"))
    for _ in range(100):
        done(leader, Set(b"/a", b"1"))
    affected = watch(follower.watchers, b"/a")
    patient = watch(follower.watchers, b"/a", 101)
    disk = Disk()
    disk.store(take_changes(leader))
    installed = Keyspace()
    installed.load(disk.image())
    installed.succeed(follower)
    assert affected.closed == [CloseReason.CLEARED]
    while installed.watchers.catch_up(3):
        pass
    done(installed, Set(b"/a", b"2"))
    assert (affected.events, patient.indices, patient.closed) == ([], [101], [])


def test_what_an_install_skipped_comes_as_fast_as_a_client_consumes_it() -> None:
    """Nobody wrote these events as fast as they come now, so no client is closed for not keeping up with them."""
    leader = Keyspace()
    follower = Keyspace()
    for _ in range(200):
        done(leader, Set(b"/big", b"x" * 20_000))
    disk = Disk()
    disk.store(take_changes(leader))
    slow = watch(follower.watchers, b"/big")
    slow.consuming = False
    fast = watch(follower.watchers, b"/", recursive=True)
    installed = Keyspace()
    installed.load(disk.image())
    installed.succeed(follower)
    while installed.watchers.catch_up(7):
        pass
    assert fast.indices == list(range(1, 201))
    assert slow.watcher is not None
    assert slow.closed == []
    rounds = 0
    while not slow.watcher.live:
        assert slow.watcher.unconsumed_bytes <= watchers.WATCHER_BYTES_MAX
        slow.watcher.consumed()
        slow.catch_up()
        rounds += 1
    assert rounds > 3
    slow.watcher.consumed()
    done(installed, Set(b"/big", b"2"))
    assert (slow.indices, slow.closed) == (list(range(1, 202)), [])
    assert installed.watchers.count == 2
