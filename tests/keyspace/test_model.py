"""The keyspace against a plain model: a dictionary by path, and etcd's rules as the contract has them."""

import json
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from kvraft.keyspace.command_codec import decode_command, encode_command
from kvraft.keyspace.commands import (
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Set,
    Sync,
    Update,
)
from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.keyspace.events import Event
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.watchers import WatcherHub
from tests.keyspace.flushes import take_changes
from tests.keyspace.helpers import CLOCK_MS, Disk, assert_same, read_bytes, watch


@dataclass(frozen=True)
class Item:
    """What the model knows of a path; a directory has no value."""

    value: bytes | None
    created: int
    modified: int
    deadline_ms: int | None


class RefusedError(Exception):
    """The model says no."""


class Model:
    """Etcd's rules on a flat dictionary."""

    def __init__(self) -> None:
        self.items: dict[bytes, Item] = {b"/": Item(None, 0, 0, None)}
        self.index = 0

    def parents(self, path: bytes) -> list[bytes]:
        """Every path above, from the root down."""
        names = path.split(b"/")[1:]
        return [b"/"] + [b"/" + b"/".join(names[:depth]) for depth in range(1, len(names))]

    def find(self, path: bytes) -> Item:
        """The item, or the first reason why there is none."""
        for above in [*self.parents(path), path]:
            if above not in self.items:
                raise RefusedError(ErrorCode.KEY_NOT_FOUND, above)
            if above != path and self.items[above].value is not None:
                raise RefusedError(ErrorCode.NOT_DIR, above)
        return self.items[path]

    def below(self, path: bytes) -> list[bytes]:
        """Every path strictly below."""
        return [other for other in self.items if other.startswith(path.rstrip(b"/") + b"/") and other != path]

    def put(self, path: bytes, command: Set | Create | CreateInOrder, clock_ms: int, *, replaces: bool) -> None:
        """Create or replace."""
        if path == b"/":
            raise RefusedError(ErrorCode.ROOT_READ_ONLY, b"/")
        for above in self.parents(path):
            if above in self.items and self.items[above].value is not None:
                raise RefusedError(ErrorCode.NOT_DIR, above)
        old = self.items.get(path)
        if old is not None and not replaces:
            raise RefusedError(ErrorCode.NODE_EXIST, path)
        if old is not None and old.value is None:
            raise RefusedError(ErrorCode.NOT_FILE, path)
        self.index += 1
        for above in self.parents(path):
            self.items.setdefault(above, Item(None, self.index, self.index, None))
        value = None if command.directory else command.value
        if isinstance(command, Set) and command.refresh and not command.directory:
            assert old is not None
            value = old.value
        self.items[path] = Item(value, self.index, self.index, deadline(command.ttl_s, clock_ms))

    def apply(self, command: Command, clock_ms: int) -> None:
        """Do it, or say why not."""
        if isinstance(command, Set):
            if command.refresh:
                self.find(command.path)
            self.put(command.path, command, clock_ms, replaces=True)
        elif isinstance(command, Create):
            self.put(command.path, command, clock_ms, replaces=False)
        elif isinstance(command, CreateInOrder):
            name = command.path.rstrip(b"/") + b"/%020d" % (self.index + 1)
            self.put(name, command, clock_ms, replaces=False)
        elif isinstance(command, Update):
            self.update(command, clock_ms)
        elif isinstance(command, CompareAndSwap):
            if command.path == b"/":
                raise RefusedError(ErrorCode.ROOT_READ_ONLY, b"/")
            item = self.compare(command.path, command.prev_value, command.prev_index)
            self.index += 1
            value = item.value if command.refresh else command.value
            self.items[command.path] = Item(value, item.created, self.index, deadline(command.ttl_s, clock_ms))
        elif isinstance(command, CompareAndDelete):
            self.compare(command.path, command.prev_value, command.prev_index)
            self.index += 1
            del self.items[command.path]
        elif isinstance(command, Delete):
            self.delete(command)
        else:
            self.expire(clock_ms)

    def update(self, command: Update, clock_ms: int) -> None:
        """Value and TTL of a file, TTL of a directory."""
        if command.path == b"/":
            raise RefusedError(ErrorCode.ROOT_READ_ONLY, b"/")
        item = self.find(command.path)
        if item.value is None and command.value:
            raise RefusedError(ErrorCode.NOT_FILE, command.path)
        self.index += 1
        item = replace(item, deadline_ms=deadline(command.ttl_s, clock_ms))
        if item.value is not None:
            item = replace(item, modified=self.index, value=item.value if command.refresh else command.value)
        self.items[command.path] = item

    def compare(self, path: bytes, prev_value: bytes | None, prev_index: int) -> Item:
        """The file, if it is as wanted."""
        item = self.find(path)
        if item.value is None:
            raise RefusedError(ErrorCode.NOT_FILE, b"" if path == b"/" else path)
        causes = []
        if prev_value and prev_value != item.value:
            causes.append(b"[%b != %b]" % (prev_value, item.value))
        if prev_index and prev_index != item.modified:
            causes.append(b"[%d != %d]" % (prev_index, item.modified))
        if causes:
            raise RefusedError(ErrorCode.TEST_FAILED, b" ".join(causes))
        return item

    def delete(self, command: Delete) -> None:
        """A file, or a directory with its flags."""
        path = command.path
        if path == b"/":
            raise RefusedError(ErrorCode.ROOT_READ_ONLY, b"/")
        if self.find(path).value is None:
            if not command.directory and not command.recursive:
                raise RefusedError(ErrorCode.NOT_FILE, path)
            if self.below(path) and not command.recursive:
                raise RefusedError(ErrorCode.DIR_NOT_EMPTY, path)
        self.index += 1
        for gone in [path, *self.below(path)]:
            del self.items[gone]

    def expire(self, clock_ms: int) -> None:
        """One index for each that is due and still there, in order."""
        due = sorted(
            (item.deadline_ms, item.created, path)
            for path, item in self.items.items()
            if item.deadline_ms is not None and item.deadline_ms <= clock_ms
        )
        for _, _, path in due:
            if path in self.items:
                self.index += 1
                for gone in [path, *self.below(path)]:
                    del self.items[gone]

    def listing(self, path: bytes, clock_ms: int) -> dict[str, object]:
        """The recursive sorted GET."""
        item = self.items[path]
        shown: dict[str, object] = {} if path == b"/" else {"key": path.decode()}
        if item.value is not None:
            shown["value"] = item.value.decode()
        else:
            shown["dir"] = True
        if item.deadline_ms is not None:
            shown["expiration"] = "1970-01-01T00:00:01Z"
            ttl_s = -((clock_ms - item.deadline_ms) // 1000)
            if ttl_s:
                shown["ttl"] = ttl_s
        children = sorted(
            other
            for other in self.below(path)
            if self.parents(other)[-1] == path and not other.rpartition(b"/")[2].startswith(b"_")
        )
        if children:
            shown["nodes"] = [self.listing(child, clock_ms) for child in children]
        if path != b"/":
            shown |= {"modifiedIndex": item.modified, "createdIndex": item.created}
        return shown


def deadline(ttl_s: int, clock_ms: int) -> int | None:
    """When it is due."""
    return None if ttl_s < 0 else clock_ms + ttl_s * 1000


PATHS = st.one_of(
    st.just(b"/"),
    st.lists(st.sampled_from([b"a", b"b", b"_h"]), min_size=1, max_size=4).map(lambda names: b"/" + b"/".join(names)),
)
VALUES = st.sampled_from([b"", b"1", b"2", b'"<\n'])
TTLS = st.sampled_from([-1, -1, 0, 1, 5])
SECOND_NS = 1_000_000_000
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(Set, PATHS, VALUES, st.booleans(), TTLS, st.just(SECOND_NS)),
    st.builds(Set, PATHS, VALUES),
    st.builds(Set, PATHS, st.just(b""), st.booleans(), TTLS, st.just(SECOND_NS), st.just(True)),
    st.builds(Create, PATHS, VALUES, st.booleans(), TTLS, st.just(SECOND_NS)),
    st.builds(CreateInOrder, PATHS, VALUES, st.booleans(), TTLS, st.just(SECOND_NS)),
    st.builds(Update, PATHS, VALUES, TTLS, st.just(SECOND_NS), st.booleans()),
    st.builds(
        CompareAndSwap,
        PATHS,
        VALUES,
        st.one_of(st.none(), VALUES),
        st.integers(0, 6),
        TTLS,
        st.just(SECOND_NS),
        st.booleans(),
    ),
    st.builds(Delete, PATHS, st.booleans(), st.booleans()),
    st.builds(CompareAndDelete, PATHS, st.one_of(st.none(), VALUES), st.integers(0, 6)),
    st.builds(Sync),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(COMMANDS, st.sampled_from([0, 0, 1, 999, 1000, 3000])), min_size=1, max_size=40))
def test_the_keyspace_does_what_the_model_does(script: list[tuple[Command, int]]) -> None:
    """Answers, causes, indices, trees; a watcher of everything visible sees each change; a second member agrees."""
    model = Model()
    hub = WatcherHub()
    keyspace, twin, disk = Keyspace(hub), Keyspace(), Disk()
    seen = watch(hub, b"/", recursive=True)
    clock_ms = CLOCK_MS
    for command, passed_ms in script:
        clock_ms += passed_ms
        answer = keyspace.apply(command, clock_ms)
        assert twin.apply(decode_command(encode_command(command)), clock_ms) == answer
        try:
            model.apply(command, clock_ms)
        except RefusedError as refusal:
            assert isinstance(answer, EtcdError)
            assert (answer.code, answer.cause) == refusal.args
            assert answer.index == model.index
        else:
            assert not isinstance(answer, EtcdError)
            if isinstance(answer, Event):
                assert answer.etcd_index == model.index
        assert keyspace.etcd_index == model.index
    listed = json.loads(read_bytes(keyspace, b"/", recursive=True, clock_ms=clock_ms))
    assert listed == model.listing(b"/", clock_ms)
    assert {(view.path, view.created_index, view.modified_index) for view in keyspace.nodes()} == {
        (path, item.created, item.modified) for path, item in model.items.items() if path != b"/"
    }
    deadlines = [item.deadline_ms for item in model.items.values() if item.deadline_ms is not None]
    assert keyspace.next_deadline_ms() == min(deadlines, default=None)
    history = keyspace.history.read(1, 10_000) if model.index else []
    assert [event.etcd_index for event in history] == list(range(1, model.index + 1))
    assert seen.events == [event for event in history if not event.refresh and b"/_" not in event.node.path]
    assert_same(keyspace, twin)
    disk.store(take_changes(keyspace))
    restored = Keyspace()
    restored.load(disk.image())
    assert_same(restored, keyspace)
