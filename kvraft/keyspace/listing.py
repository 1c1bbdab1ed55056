"""A GET as JSON: the `node` object with etcd's fields, omissions and order (contract A.1, A.5), in fragments.

`Keyspace.get` answers a file, and a directory that fits one slice, as finished bytes; a file with a large value in
parts, one of them the very bytes in the tree, so that however many read it slowly, it is in memory once.
Anything larger is a `Listing`: iterate over it, write each fragment, let other work run between two of them; each takes
a few milliseconds at most.
The JSON is that of the moment of the GET, however long it takes and whatever is written meanwhile: files never change,
and a directory that is about to change tells open listings first (`preserve`), which keep its children as they were.
A fragment may be empty: then it only gives way to other work, and must not be written (it would end a chunked body).
Close a listing that is not read to its end.
"""

import datetime as dt
import heapq
from collections.abc import Generator, Iterator
from itertools import chain
from operator import attrgetter
from typing import Final, final

from kvraft.keyspace.json_text import escape
from kvraft.keyspace.tree import AnyNode, Directory, File, Lifetime, ttl_at

FRAGMENT_NODES: Final = 1000
"""Nodes in one fragment: some 2 ms of work with values of 1 KiB."""

FRAGMENT_BYTES: Final = 128 << 10
"""A fragment ends after this many bytes of values too. One waits in front of each client that reads slowly."""

LARGE_VALUE_BYTES: Final = 32 << 10
"""A value above is not copied into what surrounds it."""

SORT_RUN: Final = 16384
"""Children sorted at once; more are sorted in runs and merged, since a million names take a second."""

_UNDERSCORE: Final = ord("_")
"""First byte of the name of a hidden node."""

_name_of = attrgetter("name")
_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001 -- only arithmetic on UTC, written with Z


def format_expiration(expiration_ns: int) -> bytes:
    """Unix nanoseconds as Go's RFC3339Nano in UTC: up to nine digits of fraction without trailing zeros."""
    seconds, fraction = divmod(expiration_ns, 1_000_000_000)
    try:
        text = (_EPOCH + dt.timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        # Beyond the year 9999, where a saturated TTL leads; Go would write a longer year.
        text = "9999-12-31T23:59:59"
    if fraction:
        text += f".{fraction:09d}".rstrip("0")
    return text.encode() + b"Z"


def _render_small_file(path_json: bytes, file: File, clock_ms: int) -> bytes:
    """The node object of a file; `path_json` is its escaped path, `ttl` counts from `clock_ms`."""
    lifetime = file.lifetime
    if lifetime is None:
        return b'{"key":"%b","value":%b,"modifiedIndex":%d,"createdIndex":%d}' % (
            path_json,
            file.value_json,
            file.modified_index,
            file.created_index,
        )
    return b'{"key":"%b","value":%b%b,"modifiedIndex":%d,"createdIndex":%d}' % (
        path_json,
        file.value_json,
        _render_lifetime(lifetime, clock_ms),
        file.modified_index,
        file.created_index,
    )


def _render_large_file(path_json: bytes, file: File, clock_ms: int) -> tuple[bytes, bytes, bytes]:
    """The same in three parts, of which the second is the value as it lies in the tree."""
    lifetime = b"" if file.lifetime is None else _render_lifetime(file.lifetime, clock_ms)
    tail = b'%b,"modifiedIndex":%d,"createdIndex":%d}' % (lifetime, file.modified_index, file.created_index)
    return b'{"key":"%b","value":' % path_json, file.value_json, tail


def render_file(path_json: bytes, file: File, clock_ms: int) -> bytes | tuple[bytes, ...]:
    """The node object of a file, in parts if its value is large."""
    render = _render_large_file if len(file.value_json) > LARGE_VALUE_BYTES else _render_small_file
    return render(path_json, file, clock_ms)


@final
class Listing:
    """The node object of a directory, as fragments that are joined without anything between them."""

    def __init__(self, path: bytes, directory: Directory, *, recursive: bool, in_order: bool, clock_ms: int) -> None:
        self._top = directory
        self._recursive = recursive
        self._in_order = in_order
        self._clock_ms = clock_ms
        self._kept_children: dict[Directory, list[AnyNode] | None] = {}
        """Children as of the start, of directories changed since; None: needed no more, or not part of this listing."""
        self._kept_lifetimes: dict[Directory, Lifetime | None] = {}
        self.open = True
        """False once read to its end or closed."""
        self._fragments: Iterator[bytes] = self._render(path)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._fragments)

    def close(self) -> None:
        """Let go of everything kept; nothing more is rendered."""
        self._fragments = iter(())
        self._end()

    def preserve(self, directory: Directory) -> None:
        """The directory's children are about to change."""
        if not self._recursive or directory in self._kept_children:
            return
        step: Directory | None = directory
        while step is not None and step is not self._top:
            step = step.parent
        self._kept_children[directory] = None if step is None else list(directory.children.values())

    def preserve_lifetime(self, directory: Directory) -> None:
        """The directory's TTL is about to change."""
        self._kept_lifetimes.setdefault(directory, directory.lifetime)

    def start(self) -> bytes | None:
        """Render the first fragment: the whole object if it fits, otherwise None, and iteration begins with it."""
        first = next(self._fragments)
        if not self.open:
            return first
        self._fragments = chain((first,), self._fragments)
        return None

    def _end(self) -> None:
        self.open = False
        self._kept_children.clear()
        self._kept_lifetimes.clear()

    def _lifetime_of(self, directory: Directory) -> Lifetime | None:
        if directory in self._kept_lifetimes:
            return self._kept_lifetimes[directory]
        return directory.lifetime

    def _directory_head(self, directory: Directory, path_json: bytes) -> bytes:
        lifetime = self._lifetime_of(directory)
        shown = b"" if lifetime is None else _render_lifetime(lifetime, self._clock_ms)
        return b'{"key":"%b","dir":true%b' % (path_json, shown) if path_json else b'{"dir":true'

    def _render(self, path: bytes) -> Iterator[bytes]:
        """Walk down with an explicit stack; paths may be 10,000 deep."""
        path_json = b"" if path == b"/" else escape(path)
        out = [self._directory_head(self._top, path_json)]
        prefix = path_json + b"/"
        """Of the keys of the children being written. One for the whole walk: 10,000 of them would be 100 MB."""
        stack: list[tuple[Iterator[AnyNode], int, bytes]] = []
        """Children left, length of their prefix, end of their directory."""
        children = yield from self._visible_children(self._top)
        if children is None:
            out.append(_directory_tail(self._top))
        else:
            out.append(b',"nodes":[')
            stack.append((children, len(prefix), b"]" + _directory_tail(self._top)))
        separator = b""
        nodes_left, bytes_left = FRAGMENT_NODES, FRAGMENT_BYTES
        while stack:
            children, prefix_length, tail = stack[-1]
            prefix = prefix[:prefix_length]
            for child in children:
                name = child.name if child.name.isalnum() else escape(child.name)
                nodes_left -= 1
                if isinstance(child, File) and len(child.value_json) > LARGE_VALUE_BYTES:
                    before_value, value, behind_value = _render_large_file(prefix + name, child, self._clock_ms)
                    out += (separator, before_value)
                    yield _taken(out)
                    yield value
                    out.append(behind_value)
                    nodes_left, bytes_left = FRAGMENT_NODES, FRAGMENT_BYTES
                elif isinstance(child, File):
                    bytes_left -= len(child.value_json) + prefix_length
                    if child.lifetime is None:
                        out.append(
                            b'%b{"key":"%b%b","value":%b,"modifiedIndex":%d,"createdIndex":%d}'
                            % (separator, prefix, name, child.value_json, child.modified_index, child.created_index)
                        )
                    else:
                        out.append(separator + _render_small_file(prefix + name, child, self._clock_ms))
                else:
                    bytes_left -= prefix_length
                    out.append(separator + self._directory_head(child, prefix + name))
                    below = (yield from self._visible_children(child)) if self._recursive else None
                    if below is not None:
                        out.append(b',"nodes":[')
                        prefix = b"%b%b/" % (prefix, name)
                        stack.append((below, len(prefix), b"]" + _directory_tail(child)))
                        separator = b""
                        break
                    out.append(_directory_tail(child))
                separator = b","
                if nodes_left <= 0 or bytes_left <= 0:
                    yield _taken(out)
                    nodes_left, bytes_left = FRAGMENT_NODES, FRAGMENT_BYTES
            else:
                out.append(tail)
                separator = b","
                stack.pop()
            if bytes_left <= 0:
                yield _taken(out)
                nodes_left, bytes_left = FRAGMENT_NODES, FRAGMENT_BYTES
        self._end()
        yield _taken(out)

    def _visible_children(self, directory: Directory) -> Generator[bytes, None, Iterator[AnyNode] | None]:
        """The children to be listed, sorted if asked for; None if there are none. Yields nothing between long sorts."""
        kept = self._kept_children.get(directory)
        # From now on they need not be preserved.
        self._kept_children[directory] = None
        children = list(directory.children.values()) if kept is None else kept
        if all(child.name[0] == _UNDERSCORE for child in children):
            return None
        merged: Iterator[AnyNode]
        if not self._in_order:
            merged = iter(children)
        elif len(children) <= SORT_RUN:
            children.sort(key=_name_of)
            merged = iter(children)
        else:
            runs = []
            for start in range(0, len(children), SORT_RUN):
                runs.append(sorted(children[start : start + SORT_RUN], key=_name_of))
                yield b""
            merged = heapq.merge(*runs, key=_name_of)
        return filter(_is_shown, merged)


def _is_shown(child: AnyNode) -> bool:
    return child.name[0] != _UNDERSCORE


Found = bytes | tuple[bytes, ...] | Listing
"""What `Keyspace.get` finds."""


def _taken(out: list[bytes]) -> bytes:
    """What has been written, joined and let go of: the listing may wait long before it goes on."""
    fragment = b"".join(out)
    out.clear()
    return fragment


def _directory_tail(directory: Directory) -> bytes:
    if directory.parent is None:
        return b"}"
    return b',"modifiedIndex":%d,"createdIndex":%d}' % (directory.modified_index, directory.created_index)


def _render_lifetime(lifetime: Lifetime, clock_ms: int) -> bytes:
    ttl_s = ttl_at(lifetime, clock_ms)
    shown = b',"expiration":"%b"' % format_expiration(lifetime.expiration_ns)
    return b'%b,"ttl":%d' % (shown, ttl_s) if ttl_s else shown
