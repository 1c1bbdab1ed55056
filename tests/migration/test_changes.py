"""What has to be done to a tree, held against the keyspace: done to another one, it ends like the first."""

import random
from collections.abc import Iterable, Iterator

import hypothesis
from hypothesis import strategies as st

from kvraft.keyspace.commands import Command, Create, CreateInOrder, Delete, Set, Update
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.events import Action, Event
from kvraft.keyspace.json_text import decode_value
from kvraft.keyspace.keyspace import Keyspace
from kvraft.migration.changes import Batch, Put, Seen, coalesced, differences, repair
from kvraft.migration.contents import NS_PER_S, Node, depth_of, parent_of

_PATHS = [b"/a", b"/b", b"/a/x", b"/a/y", b"/a/x/deep", b"/b/z", b"/c/d/e/f"]
_FAR_NS = 10_000 * NS_PER_S


def _commands() -> st.SearchStrategy[Command]:
    paths = st.sampled_from(_PATHS)
    values = st.sampled_from([b"", b"1", b"2"])
    return st.one_of(
        st.builds(Set, paths, values),
        st.builds(Set, paths, values, st.just(True)),
        st.builds(Set, paths, values, st.just(False), st.just(100), st.sampled_from([_FAR_NS, 2 * _FAR_NS])),
        st.builds(Update, paths, values),
        st.builds(CreateInOrder, st.sampled_from([b"/q", b"/a"]), values),
        st.builds(Delete, paths, st.just(True), st.just(True)),
    )


def _seen(event: Event) -> Seen:
    node = event.node
    is_gone = event.action is Action.DELETE
    before = event.prev_node
    return Seen(
        node.path,
        node.modified_index,
        is_gone,
        node.directory or bool(is_gone and before and before.directory),
        decode_value(node.value_json) if node.value_json is not None else b"",
        node.expiration_ns,
        node.created_index,
        event.action in {Action.SET, Action.CREATE},
    )


def nodes_of(keyspace: Keyspace) -> list[Node]:
    return [
        Node(
            view.path,
            None if view.value_json is None else decode_value(view.value_json),
            view.expiration_ns,
            view.created_index,
            view.modified_index,
        )
        for view in keyspace.nodes()
    ]


def _do(keyspace: Keyspace, batch: Batch) -> None:
    """What `Writer` does, with lanes of a level in an order that it may choose."""
    rng = random.Random(len(batch))
    for path in batch.removed:
        keyspace.apply(Delete(path, directory=True, recursive=True), 0)
    for lanes in batch.lanes():
        mixed = list(lanes)
        rng.shuffle(mixed)
        for put in (put for lane in mixed for put in lane):
            _put(keyspace, put)


def _put(keyspace: Keyspace, put: Put) -> None:
    ttl_s = 100 if put.expiration_ns else -1
    is_directory = put.value is None
    if put.only_if_absent:
        keyspace.apply(Create(put.path, b"", is_directory), 0)
        return
    if put.in_place:
        answer = keyspace.apply(Update(put.path, put.value or b"", ttl_s, put.expiration_ns), 0)
        if not isinstance(answer, EtcdError):
            return
    answer = keyspace.apply(Set(put.path, put.value or b"", is_directory, ttl_s, put.expiration_ns), 0)
    if isinstance(answer, EtcdError):
        assert is_directory, answer
        assert not isinstance(keyspace.apply(Update(put.path, b"", ttl_s, put.expiration_ns), 0), EtcdError)


def _differ(source: Keyspace, target: Keyspace) -> list[tuple[bytes, str]]:
    return [(each.path, each.what) for each in differences(nodes_of(source), nodes_of(target), 0)]


@hypothesis.given(st.lists(st.lists(_commands(), max_size=12), max_size=4))
def test_a_tree_that_follows_in_batches_is_like_the_one_it_follows(runs: list[list[Command]]) -> None:
    """Values, kinds, TTLs; files made anew stand in the order of creation."""
    source, target = Keyspace(), Keyspace()
    for run in runs:
        answers = [source.apply(command, 0) for command in run]
        batch = coalesced(_seen(answer) for answer in answers if isinstance(answer, Event))
        _do(target, batch)
        assert [each for each in _differ(source, target) if each[1] != "order"] == []


@hypothesis.given(st.lists(_commands(), max_size=20), st.lists(_commands(), max_size=20))
def test_a_repaired_tree_is_like_the_other(one: list[Command], other: list[Command]) -> None:
    """Whatever both were: after one repair of what differs and at most two of the order nothing does."""
    source, target = Keyspace(), Keyspace()
    for command in one:
        source.apply(command, 0)
    for command in other:
        target.apply(command, 0)
    for _ in range(3):
        _do(target, repair(differences(nodes_of(source), nodes_of(target), 0)))
    assert _differ(source, target) == []


@hypothesis.given(st.lists(_commands(), max_size=30))
def test_a_copy_is_made_in_the_order_of_creation(commands: list[Command]) -> None:
    """In every directory, files and directories alike."""
    source, target = Keyspace(), Keyspace()
    for command in commands:
        source.apply(command, 0)
    _do(target, repair(differences(nodes_of(source), nodes_of(target), 0)))
    assert list(_order(nodes_of(target))) == list(_order(nodes_of(source)))


def _order(nodes: Iterable[Node]) -> Iterator[tuple[bytes, ...]]:
    """Each directory's children by age; those of one age, which were made on the way to one node, by path."""
    by_parent: dict[bytes, list[Node]] = {}
    for node in nodes:
        by_parent.setdefault(parent_of(node.path), []).append(node)
    for parent in sorted(by_parent, key=lambda path: (depth_of(path), path)):
        yield tuple(node.path for node in sorted(by_parent[parent], key=lambda node: (node.created_index, node.path)))


def test_what_is_about_to_expire_is_no_difference() -> None:
    """Nor what is below it: one side may have lost it already."""
    now_ns = _FAR_NS
    ending = [Node(b"/d", None, now_ns + NS_PER_S), Node(b"/d/k", b"v"), Node(b"/f", b"v", now_ns - NS_PER_S)]
    assert differences(ending, [], now_ns) == []
    assert differences([], ending, now_ns) == []


def test_ttls_are_the_same_within_what_rounding_makes_of_them() -> None:
    """Whole seconds on either side; a missing one is never the same."""
    here = [Node(b"/k", b"v", _FAR_NS)]
    assert differences(here, [Node(b"/k", b"v", _FAR_NS + 4 * NS_PER_S)], 0) == []
    for expiration_ns in (0, _FAR_NS + 9 * NS_PER_S):
        (found,) = differences(here, [Node(b"/k", b"v", expiration_ns)], 0)
        assert found.what == "ttl"


def test_a_slow_listing_makes_expirations_unsure() -> None:
    """A TTL is told as of some moment in it: what may be the same is no difference, and more is one."""
    here = [Node(b"/k", b"v", _FAR_NS)]
    assert differences(here, [Node(b"/k", b"v", _FAR_NS + 12 * NS_PER_S)], 0, 8 * NS_PER_S) == []
    (found,) = differences(here, [Node(b"/k", b"v", _FAR_NS + 14 * NS_PER_S)], 0, 8 * NS_PER_S)
    assert found.what == "ttl"


def test_a_directory_that_is_extra_goes_in_one_step() -> None:
    """Not each of its keys."""
    theirs = [Node(b"/d", None), Node(b"/d/k", b"v"), Node(b"/d/e", None), Node(b"/d/e/l", b"v")]
    assert repair(differences([], theirs, 0)).removed == [b"/d"]
