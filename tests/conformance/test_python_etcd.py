"""python-etcd 0.4.5, a client that people have, against three members of etcd and of kvraft: same results and errors.

Its calls go through the members in turn. The last tests take members away.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, final

import etcd
import pytest

from kvraft.testing.cluster import Cluster
from tests.cluster.load import write_many
from tests.conformance import systems
from tests.conformance.systems import HISTORY_SIZE, System

pytestmark = pytest.mark.slow

HAPPENS_WITHIN_S: Final = 20.0
SILENCE_S: Final = 0.2
"""How long a watch must stay without an event to be believed silent."""
_numbers: Final = itertools.count(1)


@final
class Place:
    """A path of its own in a running system, and clients that end with the test."""

    def __init__(self, system: System) -> None:
        self.system: Final = system
        self.cluster: Final[Cluster] = system.cluster
        self.path: Final = f"/python-etcd-{next(_numbers)}"
        self._turns = itertools.cycle(self.cluster.members)
        self._clients: list[Any] = []

    def client(self, **options: Any) -> Any:
        """A client of one member, the next in turn; `host` says otherwise."""
        if "host" not in options:
            options |= {"host": "127.0.0.1", "port": next(self._turns).client_port}
        client = etcd.Client(**{"read_timeout": HAPPENS_WITHIN_S} | options)
        self._clients.append(client)
        return client

    def client_of_all(self, first: str) -> Any:
        """A client that knows every member, talks to one, and goes to another when that one fails."""
        ordered = sorted(self.cluster.running, key=lambda member: member.name != first)
        hosts = tuple(("127.0.0.1", member.client_port) for member in ordered)
        return self.client(host=hosts, allow_reconnect=True)

    def close(self) -> None:
        """Hang up."""
        for client in self._clients:
            client.http.clear()


@pytest.fixture(scope="module", params=["etcd", "subject"])
def three(request: pytest.FixtureRequest) -> Iterator[System]:
    """Three members of each, shared by the tests that take no member away."""
    if request.param == "subject":
        yield request.getfixturevalue("subject_of_three")
        return
    with systems.etcd(3) as system:
        yield system


@pytest.fixture(scope="module")
def mortals() -> Iterator[System]:
    """Three members of kvraft, shared by the tests that take members away."""
    with systems.kvraft(3) as system:
        yield system


@pytest.fixture
def place(three: System) -> Iterator[Place]:
    """A path of its own in three members that all live."""
    opened = Place(three)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def mortal(mortals: System) -> Iterator[Place]:
    """A path of its own in three members that the test may kill; they live again afterwards."""
    opened = Place(mortals)
    try:
        yield opened
    finally:
        opened.close()
        mortals.cluster.start()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for calls that block until another client does something."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_a_value_is_written_read_and_deleted(place: Place) -> None:
    """Each client reads what another wrote, with the action, the indices and whether the key is new."""
    one, other = place.client(), place.client()
    key = f"{place.path}/a"
    created = one.write(key, "1")
    assert (created.action, created.key, created.value, created.newKey) == ("set", key, "1", True)
    assert created.createdIndex == created.modifiedIndex == created.etcd_index
    assert created.ttl is None
    assert not created.dir
    changed = one.set(key, "2")
    assert not changed.newKey
    assert changed._prev_node.value == "1"
    assert changed.createdIndex == changed.modifiedIndex > created.createdIndex
    read = other.read(key, quorum=True)
    assert (read.action, read.value, read.modifiedIndex) == ("get", "2", changed.modifiedIndex)
    assert read.raft_index >= created.raft_index
    assert read == changed, "python-etcd compares key, value and indices"
    assert key in one
    assert one.get(key).value == "2"
    assert one.pop(key).value == "2"
    assert key not in one


def test_odd_keys_and_values_come_back_as_they_were(place: Place) -> None:
    """A key with a blank, an accent and an escape, and values of every kind of character."""
    client = place.client()
    value = '\u00e9\u4e16\U0001f600 &=+%;"\\\n\t<>'
    for key in (f"{place.path}/a b", f"{place.path}/\u00e9", f"{place.path}/a+b", f"{place.path}/_hidden"):
        client.write(key, value)
        assert client.read(key).value == value
    client.write(f"{place.path}/empty", "")
    assert client.read(f"{place.path}/empty").value == ""
    shown = {leaf.key for leaf in client.read(place.path).leaves}
    assert shown == {f"{place.path}/{name}" for name in ("a b", "\u00e9", "a+b", "empty")}


def test_directories_are_made_listed_and_removed(place: Place) -> None:
    """Nested, in order, recursive or one level, with and without leaves."""
    client = place.client()
    made = client.write(f"{place.path}/d", None, dir=True)
    assert (made.dir, made.newKey, made.value) == (True, True, None)
    client.write(f"{place.path}/d/z", "1")
    client.write(f"{place.path}/d/y/x", "2")
    appended = [client.write(f"{place.path}/queue", number, append=True) for number in range(3)]
    assert [result.action for result in appended] == ["create"] * 3
    listed = client.read(f"{place.path}/queue", sorted=True)
    assert [leaf.key for leaf in listed.leaves] == [result.key for result in appended]
    assert [leaf.value for leaf in listed.children] == ["0", "1", "2"]
    one_level = client.read(f"{place.path}/d", sorted=True)
    assert [(leaf.key, leaf.dir) for leaf in one_level.leaves] == [
        (f"{place.path}/d/y", True),
        (f"{place.path}/d/z", False),
    ]
    whole = client.read(f"{place.path}/d", recursive=True, sorted=True)
    assert [node.key.removeprefix(place.path) for node in whole.get_subtree()] == ["/d", "/d/y", "/d/y/x", "/d/z"]
    client.delete(f"{place.path}/d/z")
    client.delete(f"{place.path}/d/y/x")
    removed = client.delete(f"{place.path}/d/y", dir=True)
    assert (removed.action, removed.dir) == ("delete", True)
    assert client.read(f"{place.path}/d")._children == []
    assert client.delete(f"{place.path}/queue", recursive=True)._prev_node.dir
    assert f"{place.path}/queue" not in client


def test_test_and_set_changes_the_expected_value_only(place: Place) -> None:
    """By value, by index, by existence; for deletes, too; and `update` of what was read."""
    one, other = place.client(), place.client()
    key = f"{place.path}/a"
    first = one.write(key, "old", prevExist=False)
    assert first.action == "create"
    swapped = other.test_and_set(key, "new", "old", ttl=100)
    assert (swapped.action, swapped.value, swapped._prev_node.value) == ("compareAndSwap", "new", "old")
    assert swapped.createdIndex == first.createdIndex
    assert 98 <= swapped.ttl <= 100
    with pytest.raises(etcd.EtcdCompareFailed, match=r"Compare failed : \[old != new\]") as refused:
        one.test_and_set(key, "newer", "old")
    assert refused.value.payload["index"] == swapped.etcd_index
    with pytest.raises(etcd.EtcdCompareFailed):
        one.write(key, "newer", prevIndex=first.modifiedIndex)
    swapped = one.write(key, "newer", prevIndex=swapped.modifiedIndex)
    assert one.write(key, "newest", prevExist=True).action == "update"
    read = other.read(key, quorum=True)
    read.value = "by update"
    one.update(read)
    with pytest.raises(etcd.EtcdCompareFailed):
        one.update(read)
    with pytest.raises(etcd.EtcdCompareFailed):
        one.delete(key, prevValue="newest")
    with pytest.raises(etcd.EtcdCompareFailed):
        one.delete(key, prevIndex=swapped.modifiedIndex)
    deleted = one.delete(key, prevValue="by update")
    assert (deleted.action, deleted._prev_node.value) == ("compareAndDelete", "by update")


def test_a_watch_gives_the_next_change(place: Place, threads: ThreadPoolExecutor) -> None:
    """One without an index gives a change made after it was opened, of the key or below it."""
    writer, watcher, other = (place.client() for _ in range(3))
    written = writer.write(f"{place.path}/a/b", "1")
    _catch_up(place, watcher, written.etcd_index)
    _catch_up(place, other, written.etcd_index)
    before = watcher.store_stats["watchers"], other.store_stats["watchers"]
    of_key = threads.submit(watcher.watch, f"{place.path}/a/b")
    of_tree = threads.submit(other.watch, place.path, recursive=True)
    _until(place, "two watches", lambda: (_watchers(watcher) > before[0]) and (_watchers(other) > before[1]))
    changed = writer.write(f"{place.path}/a/b", "2")
    for watch in (of_key, of_tree):
        event = watch.result(HAPPENS_WITHIN_S)
        assert (event.action, event.key, event.value) == ("set", f"{place.path}/a/b", "2")
        assert event.modifiedIndex == changed.modifiedIndex
        assert event._prev_node.value == "1"


def test_a_watch_from_an_index_gives_the_past_and_the_future(place: Place, threads: ThreadPoolExecutor) -> None:
    """A change that was is given at once, one that will be when it happens."""
    writer, watcher = place.client(), place.client()
    past = writer.write(f"{place.path}/a", "1")
    writer.delete(f"{place.path}/a")
    event = watcher.watch(f"{place.path}/a", index=past.modifiedIndex)
    assert (event.action, event.value) == ("set", "1")
    deleted = watcher.watch(f"{place.path}/a", index=past.modifiedIndex + 1)
    assert (deleted.action, deleted._prev_node.value) == ("delete", "1")
    coming = threads.submit(watcher.watch, f"{place.path}/a", index=deleted.modifiedIndex + 1)
    writer.write(f"{place.path}/a", "2")
    assert coming.result(HAPPENS_WITHIN_S).value == "2"


def test_a_watch_times_out_without_a_change(place: Place) -> None:
    """EtcdWatchTimedOut, which is an EtcdConnectionFailed, and the client works on."""
    client = place.client()
    index = client.write(f"{place.path}/a", "1").modifiedIndex
    with pytest.raises(etcd.EtcdWatchTimedOut):
        client.watch(f"{place.path}/a", index=index + 1, timeout=SILENCE_S)
    assert client.read(f"{place.path}/a").value == "1"


def test_an_eternal_watch_misses_and_doubles_nothing(place: Place, threads: ThreadPoolExecutor) -> None:
    """Fifty changes of every kind below a directory, in order, while they are made."""
    writer, watcher = place.client(), place.client()
    start = writer.write(f"{place.path}/begin", "").modifiedIndex

    def watched() -> list[tuple[str, str, int]]:
        events = watcher.eternal_watch(place.path, index=start + 1, recursive=True)
        return [(event.action, event.key, event.modifiedIndex) for event in itertools.islice(events, 50)]

    seen = threads.submit(watched)
    made = []
    for number in range(10):
        key = f"{place.path}/{number}"
        made += [
            writer.write(key, "1", prevExist=False),
            writer.write(key, "2"),
            writer.write(key, "3", prevExist=True),
            writer.test_and_set(key, "4", "3"),
            writer.delete(key),
        ]
    assert seen.result(HAPPENS_WITHIN_S) == [(result.action, result.key, result.modifiedIndex) for result in made]


def test_a_key_with_a_ttl_expires(place: Place) -> None:
    """It has a ttl and an expiration; watchers of every member see it go; then nobody finds it."""
    writer, watcher = place.client(), place.client()
    key = f"{place.path}/short"
    written = writer.write(key, "v", ttl=1)
    assert written.ttl == 1
    assert written.expiration.endswith("Z")
    event = watcher.watch(key, index=written.modifiedIndex + 1)
    assert (event.action, event.value, event._prev_node.value) == ("expire", None, "v")
    assert event._prev_node.expiration == written.expiration
    with pytest.raises(etcd.EtcdKeyNotFound):
        writer.read(key, quorum=True)
    directory = writer.write(f"{place.path}/dir", None, dir=True, ttl=1)
    writer.write(f"{place.path}/dir/a", "v")
    assert watcher.watch(f"{place.path}/dir", index=directory.modifiedIndex + 1).action == "expire"
    assert f"{place.path}/dir/a" not in watcher


def test_a_refresh_changes_the_ttl_and_tells_nobody(place: Place) -> None:
    """The value stays, the lease is longer, a watcher sees the next change instead."""
    client = place.client()
    key = f"{place.path}/lease"
    written = client.write(key, "v", ttl=50)
    refreshed = client.refresh(key, ttl=100)
    assert (refreshed.action, refreshed.value) == ("update", "v")
    assert 98 <= refreshed.ttl <= 100
    assert refreshed.expiration > written.expiration
    changed = client.write(key, "w", ttl=100)
    event = client.watch(key, index=written.modifiedIndex + 1)
    assert (event.value, event.modifiedIndex) == ("w", changed.modifiedIndex)
    with pytest.raises(etcd.EtcdKeyNotFound):
        client.refresh(f"{place.path}/none", ttl=100)
    with pytest.raises(etcd.EtcdCompareFailed):
        client.refresh(key, ttl=100, prevValue="other")
    client.write(key, "w")
    assert client.read(key).ttl is None


def test_a_lock_has_one_holder(place: Place, threads: ThreadPoolExecutor) -> None:
    """Taken once, refused to one who will not wait, given to one who waits when it is released."""
    one, other = (place.client(lock_prefix=f"{place.path}/locks") for _ in range(2))
    first, second = etcd.Lock(one, "job"), etcd.Lock(other, "job")
    assert first.acquire(lock_ttl=100)
    assert first.acquire(lock_ttl=100), "taken again by its holder: renewed"
    _catch_up(place, other, one.read("/").etcd_index)
    assert not second.acquire(blocking=False)
    assert (first.is_acquired, second.is_acquired) == (True, False)
    waiting = threads.submit(second.acquire)
    first.release()
    assert waiting.result(HAPPENS_WITHIN_S)
    assert second.is_acquired
    found = etcd.Lock(other, "job")
    found.uuid = second.uuid
    assert found.lock_key == second.lock_key
    second.release()
    with etcd.Lock(one, "job") as held:
        assert held.is_acquired
        assert one.read(held.lock_key).ttl is None
    assert not held.is_acquired
    assert one.read(f"{place.path}/locks/job")._children == []


@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")
def test_a_lock_that_expired_is_lost(place: Place, threads: ThreadPoolExecutor) -> None:
    """Its holder finds out; one who waits gets it; one whose place in the queue expired gets EtcdLockExpired."""
    one, other, third = (place.client(lock_prefix=f"{place.path}/locks") for _ in range(3))
    first, second, late = etcd.Lock(one, "job"), etcd.Lock(other, "job"), etcd.Lock(third, "job")
    assert first.acquire(lock_ttl=1)
    _catch_up(place, other, one.read("/").etcd_index)
    assert second.acquire(lock_ttl=100), "waits for the expiry"
    _catch_up(place, one, other.read(second.lock_key).etcd_index)
    assert not first.is_acquired
    _catch_up(place, third, other.read(second.lock_key).etcd_index)
    assert not late.acquire(blocking=False)
    waiting = threads.submit(late._acquired)
    third.delete(late.lock_key)
    _catch_up(place, other, third.read("/").etcd_index)
    second.release()
    with pytest.raises(etcd.EtcdLockExpired):
        waiting.result(HAPPENS_WITHIN_S)


# The class is Any to mypy: python-etcd ships no types.
ERRORS: Final[dict[str, tuple[Any, int, Callable[[Any, str], object]]]] = {
    "get of what is not there": (etcd.EtcdKeyNotFound, 100, lambda client, path: client.get(f"{path}/none")),
    "delete of what is not there": (etcd.EtcdKeyNotFound, 100, lambda client, path: client.delete(f"{path}/none")),
    "wrong value": (etcd.EtcdCompareFailed, 101, lambda client, path: client.test_and_set(f"{path}/file", "a", "b")),
    "value for a directory": (etcd.EtcdNotFile, 102, lambda client, path: client.write(f"{path}/dir", "v")),
    "delete of a directory": (etcd.EtcdNotFile, 102, lambda client, path: client.delete(f"{path}/dir")),
    "below a file": (etcd.EtcdNotDir, 104, lambda client, path: client.write(f"{path}/file/below", "v")),
    "created twice": (
        etcd.EtcdAlreadyExist,
        105,
        lambda client, path: client.write(f"{path}/file", "v", prevExist=False),
    ),
    "root written": (etcd.EtcdRootReadOnly, 107, lambda client, _: client.write("/", "v")),
    "root deleted": (etcd.EtcdRootReadOnly, 107, lambda client, _: client.delete("/", recursive=True)),
    "directory not empty": (etcd.EtcdDirNotEmpty, 108, lambda client, path: client.delete(f"{path}/dir", dir=True)),
    "empty prevValue": (etcd.EtcdValueError, 201, lambda client, path: client.write(f"{path}/file", "v", prevValue="")),
    "ttl no number": (etcd.EtcdValueError, 202, lambda client, path: client.write(f"{path}/file", "v", ttl="abc")),
    "index no number": (etcd.EtcdValueError, 203, lambda client, path: client.watch(f"{path}/file", index="abc")),
    "flag no truth": (etcd.EtcdValueError, 209, lambda client, path: client.read(f"{path}/file", quorum="abc")),
    "refresh with a value": (
        etcd.EtcdException,
        211,
        lambda client, path: client.write(f"{path}/file", "v", ttl=9, refresh=True),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_its_exception(place: Place, name: str) -> None:
    """Class, code, cause and index of every error that a request can cause."""
    kind, code, provoke = ERRORS[name]
    client = place.client()
    client.write(f"{place.path}/file", "v")
    index = client.write(f"{place.path}/dir/file", "v").etcd_index
    with pytest.raises(etcd.EtcdException) as raised:
        provoke(client, place.path)
    assert type(raised.value) is kind
    assert raised.value.payload["errorCode"] == code
    # A request that is refused before the store is asked has no index.
    assert raised.value.payload["index"] == (0 if code >= 200 else index)


def test_an_index_out_of_the_window_is_event_index_cleared(place: Place) -> None:
    """After as many changes as the window holds, a watch from before them is refused."""
    client = place.client()
    first = client.write(f"{place.path}/first", "v")
    url = place.cluster.members[0].client_url
    asyncio.run(write_many(url, HISTORY_SIZE + 1, f"{place.path}/many", distinct=10))
    _catch_up(place, client, first.etcd_index + HISTORY_SIZE + 1)
    with pytest.raises(etcd.EtcdEventIndexCleared) as raised:
        client.watch(f"{place.path}/first", index=first.modifiedIndex)
    assert raised.value.payload["errorCode"] == 401
    assert raised.value.payload["cause"].startswith("the requested history has been cleared [")


def test_another_cluster_is_noticed(place: Place) -> None:
    """All members tell the same cluster id, and one that tells another raises EtcdClusterIdChanged once."""
    clients = [place.client() for _ in range(3)]
    for client in clients:
        client.read("/")
    assert len({client.expected_cluster_id for client in clients}) == 1
    client = place.client(expected_cluster_id="1234")
    with pytest.raises(etcd.EtcdClusterIdChanged, match="changed from 1234 to"):
        client.read("/")
    client.read("/")


def test_the_cluster_describes_itself(place: Place) -> None:
    """Machines, members, leader, version and the three kinds of stats."""
    client = place.client()
    assert sorted(client.machines) == sorted(place.system.client_urls)
    members = client.members
    assert sorted(member["name"] for member in members.values()) == ["n1", "n2", "n3"]
    leader = place.cluster.leader()
    assert client.leader["name"] == leader.name
    assert client.leader["clientURLs"] == [leader.client_url]
    assert client.leader["peerURLs"] == [leader.peer_url]
    assert client.version.count(".") == 2
    assert client.cluster_version.count(".") == 2
    assert members[client.stats["id"]]["name"] == client.stats["name"]
    assert client.stats["leaderInfo"]["leader"] == client.leader["id"]
    assert place.client(port=leader.client_port, host="127.0.0.1").leader_stats["leader"] == client.leader["id"]
    before = client.store_stats["setsSuccess"]
    client.write(f"{place.path}/a", "1")
    assert client.store_stats["setsSuccess"] > before


def test_a_client_goes_on_when_the_leader_that_it_talks_to_dies(mortal: Place) -> None:
    """With allow_reconnect: reads and writes succeed afterwards through another member, and nothing is lost."""
    leader = mortal.cluster.leader()
    client = mortal.client_of_all(leader.name)
    assert client.base_uri == leader.client_url
    for number in range(20):
        client.write(f"{mortal.path}/before/{number}", number)
    leader.kill()
    # With a quorum: a local read of a follower may be older than the last write that the dead leader acknowledged.
    listed = client.read(f"{mortal.path}/before", sorted=True, recursive=True, quorum=True)
    assert {leaf.key: leaf.value for leaf in listed.leaves} == {
        f"{mortal.path}/before/{number}": str(number) for number in range(20)
    }
    assert client.base_uri != leader.client_url
    assert mortal.cluster.leader() is not leader
    client.write(f"{mortal.path}/after", "1")
    assert client.read(f"{mortal.path}/after", quorum=True).value == "1"
    assert client.leader["name"] == mortal.cluster.leader().name
    leader.restart()
    returned = mortal.client(host="127.0.0.1", port=leader.client_port)
    assert returned.read(f"{mortal.path}/after", quorum=True).value == "1"


def test_an_eternal_watch_goes_on_when_its_member_dies(mortal: Place, threads: ThreadPoolExecutor) -> None:
    """Through another member, without missing, doubling or reordering an event."""
    watched, *others = mortal.cluster.followers()
    watcher = mortal.client_of_all(watched.name)
    writer = mortal.client(host="127.0.0.1", port=mortal.cluster.leader().client_port)
    start = writer.write(f"{mortal.path}/watched", "-1").modifiedIndex
    events = watcher.eternal_watch(f"{mortal.path}/watched", index=start + 1)

    def values(count: int) -> list[str]:
        return [event.value for event in itertools.islice(events, count)]

    first = threads.submit(values, 10)
    for number in range(10):
        writer.write(f"{mortal.path}/watched", number)
    assert first.result(HAPPENS_WITHIN_S) == [str(number) for number in range(10)]
    rest = threads.submit(values, 20)
    for number in range(10, 20):
        writer.write(f"{mortal.path}/watched", number)
    watched.kill()
    for number in range(20, 30):
        writer.write(f"{mortal.path}/watched", number)
    assert rest.result(HAPPENS_WITHIN_S) == [str(number) for number in range(10, 30)]
    assert watcher.base_uri in {mortal.cluster.leader().client_url, *(other.client_url for other in others)}


def test_without_reconnecting_and_without_a_quorum_calls_fail(mortal: Place) -> None:
    """A dead member is EtcdConnectionFailed, writes without a quorum are error 300, and local reads go on."""
    alive, *dying = mortal.cluster.members
    client = mortal.client(host="127.0.0.1", port=alive.client_port)
    client_of_dead = mortal.client(host="127.0.0.1", port=dying[0].client_port)
    client.write(f"{mortal.path}/a", "1")
    dying[0].kill()
    with pytest.raises(etcd.EtcdConnectionFailed):
        client_of_dead.read(f"{mortal.path}/a")
    client.write(f"{mortal.path}/a", "2")
    dying[1].kill()
    with pytest.raises(etcd.EtcdException) as raised:
        client.write(f"{mortal.path}/a", "3")
    assert raised.value.payload["errorCode"] == 300
    assert client.read(f"{mortal.path}/a").value == "2"
    mortal.cluster.start()
    client.write(f"{mortal.path}/a", "4")
    assert client_of_dead.read(f"{mortal.path}/a", quorum=True).value == "4"


def _catch_up(place: Place, client: Any, index: int) -> None:
    """Wait until the member of a client has applied an index: local reads through it see what was written."""
    _until(place, f"index {index}", lambda: client.read("/").etcd_index >= index)


def _watchers(client: Any) -> int:
    return int(client.store_stats["watchers"])


def _until(place: Place, what: str, holds: Callable[[], bool]) -> None:
    place.cluster.wait_for(what, holds, HAPPENS_WITHIN_S)
