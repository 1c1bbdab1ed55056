"""What has to be done to one tree so that it is like another, or follows it. Pure.

A batch is done in this order: first what goes, then what is put, level by level, and in each directory in the order in
which the source made it. So nodes stand in their directory in the source's order of creation, which is what queues,
elections and discovery read.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, final

from kvraft.migration.contents import NS_PER_S, Node, depth_of, parent_of

TTL_TOLERANCE_NS: Final = 5 * NS_PER_S
"""Two expirations that are as near to each other are the same: both servers tell whole seconds, rounded up, a TTL is
written as whole seconds, and begins when the target applies it."""


@final
@dataclass(slots=True, frozen=True)
class Put:
    """A file with this value, or a directory, is to stand there."""

    path: bytes
    value: bytes | None
    """None for a directory."""
    expiration_ns: int
    order: int
    """The source's createdIndex."""
    in_place: bool = False
    """It was there before and keeps its createdIndex, if it can."""
    only_if_absent: bool = False
    """Whatever stands there is right."""


@final
@dataclass(slots=True)
class Batch:
    """Changes that belong together. Doing them twice does no harm."""

    removed: list[bytes] = field(default_factory=list)
    """Each with all that is below it."""
    puts: list[Put] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.removed) + len(self.puts)

    def lanes(self) -> Iterable[list[list[Put]]]:
        """For each level of the tree, one list a directory, in order: lists of one level may be done side by side."""
        levels: dict[int, dict[bytes, list[Put]]] = {}
        for put in self.puts:
            levels.setdefault(depth_of(put.path), {}).setdefault(parent_of(put.path), []).append(put)
        for _, level in sorted(levels.items()):
            yield [sorted(lane, key=lambda put: (put.order, put.path)) for lane in level.values()]


@final
@dataclass(slots=True, frozen=True)
class Seen:
    """What a watch told: a node as it is now, or gone."""

    path: bytes
    index: int
    """At which this happened."""
    is_gone: bool
    is_directory: bool
    value: bytes = b""
    expiration_ns: int = 0
    created_index: int = 0
    is_new: bool = False
    """Set or created anew, so that its createdIndex is that of the event."""


def coalesced(events: Iterable[Seen]) -> Batch:
    """What a run of events comes to: only how each node ends is done.

    Directories that were made on the way to a node have no event of their own, and stay when it goes.
    """
    removed: dict[bytes, None] = {}
    puts: dict[bytes, Put] = {}
    implied: dict[bytes, int] = {}
    for event in events:
        if event.is_gone:
            _forget(event, puts)
            _forget(event, implied)
            removed[event.path] = None
            continue
        parent = parent_of(event.path)
        while event.is_new and parent != b"/" and parent not in implied:
            implied[parent] = event.created_index
            parent = parent_of(parent)
        before = puts.get(event.path)
        in_place = not event.is_new and event.path not in removed and (before is None or before.in_place)
        value = None if event.is_directory else event.value
        puts[event.path] = Put(event.path, value, event.expiration_ns, event.created_index, in_place)
    for path in list(puts):
        while (path := parent_of(path)) != b"/" and implied.pop(path, None) is not None:
            continue
    for path, order in implied.items():
        if path not in puts:
            puts[path] = Put(path, None, 0, order, only_if_absent=True)
    return Batch(list(removed), list(puts.values()))


def _forget(event: Seen, nodes: dict[bytes, Any]) -> None:
    """What stood at a node that is gone, and below it."""
    nodes.pop(event.path, None)
    if event.is_directory:
        below = event.path + b"/"
        for path in [path for path in nodes if path.startswith(below)]:
            del nodes[path]


@final
@dataclass(slots=True, frozen=True)
class Difference:
    """One way in which the target is not like the source."""

    path: bytes
    what: str
    """`missing`, `extra`, `value`, `kind`, `ttl` or `order`, as of the target."""
    source: Node | None
    target: Node | None


def differences(source: Iterable[Node], target: Iterable[Node], now_ns: int, unsure_ns: int = 0) -> list[Difference]:
    """Every difference; what is about to expire on its side is none.

    Args:
        source: Parents first.
        target: Parents first.
        now_ns: The time, in Unix nanoseconds.
        unsure_ns: What the expirations of both sides together may be wrong by, beside the whole seconds.
    """
    tolerance_ns = TTL_TOLERANCE_NS + unsure_ns
    soon_ns = now_ns + tolerance_ns
    theirs = {node.path: node for node in target}
    found: list[Difference] = []
    siblings: dict[bytes, list[tuple[Node, Node]]] = {}
    ending: set[bytes] = set()
    for node in source:
        parent = parent_of(node.path)
        if parent in ending or 0 < node.expiration_ns <= soon_ns:
            ending.add(node.path)
            theirs.pop(node.path, None)
            continue
        other = theirs.pop(node.path, None)
        what = _difference(node, other, tolerance_ns)
        if what:
            found.append(Difference(node.path, what, node, other))
        elif other is not None:
            siblings.setdefault(parent, []).append((node, other))
    for node in theirs.values():
        parent = parent_of(node.path)
        if parent in ending or 0 < node.expiration_ns <= soon_ns:
            ending.add(node.path)
        else:
            found.append(Difference(node.path, "extra", None, node))
    for pairs in siblings.values():
        found += _out_of_order(pairs)
    return found


def _difference(node: Node, other: Node | None, tolerance_ns: int) -> str:
    if other is None:
        return "missing"
    if node.is_directory != other.is_directory:
        return "kind"
    if node.value != other.value:
        return "value"
    apart_ns = abs(node.expiration_ns - other.expiration_ns)
    is_same = bool(node.expiration_ns) == bool(other.expiration_ns) and apart_ns <= tolerance_ns
    return "" if is_same else "ttl"


def _out_of_order(pairs: list[tuple[Node, Node]]) -> list[Difference]:
    """Files of a directory that have to be made again, so that all its files stand in the order of creation.

    From the first that is out of order on, since whatever is made again becomes the newest. Directories stay: making
    one again would take what is in it away for a moment.
    """
    newest, is_broken = 0, False
    found = []
    files = [pair for pair in pairs if not pair[0].is_directory]
    for node, other in sorted(files, key=lambda pair: (pair[0].created_index, pair[1].created_index)):
        is_broken = is_broken or other.created_index < newest
        newest = max(newest, other.created_index)
        if is_broken:
            found.append(Difference(node.path, "order", node, other))
    return found


def repair(found: Iterable[Difference]) -> Batch:
    """What makes the target like the source again."""
    batch = Batch()
    extra = {each.path for each in found if each.what == "extra"}
    for each in found:
        node = each.source
        if node is None:
            if parent_of(each.path) not in extra:
                batch.removed.append(each.path)
            continue
        if each.what == "kind":
            batch.removed.append(each.path)
        in_place = each.what in {"value", "ttl"}
        batch.puts.append(Put(node.path, node.value, node.expiration_ns, node.created_index, in_place))
    return batch
