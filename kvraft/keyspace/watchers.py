"""Who is told of which event: history first, then live, without gap, duplicate or reorder between the two.

How to watch, for a caller with an event loop:

    watcher = hub.watch(path, recursive=..., stream=..., since_index=..., on_event=..., on_close=...)
    if isinstance(watcher, EtcdError): ...                 # 401: below the history's floor
    send headers with watcher.start_index                  # X-Etcd-Index
    while watcher.catch_up(): let other work run           # nothing is delivered before the first call
    ...
    watcher.consumed()                                     # whenever everything delivered has left the process,
    while watcher.catch_up(): ...                          # and then what was held back meanwhile
    watcher.cancel()                                       # the client went away

`on_event` is called from `catch_up` and from inside `Keyspace.apply`, and must not raise; it may cancel and watch.
`on_close` is called once if the hub ends the watch by itself, never after the last event of a one-shot watch.

Watched paths form a trie, so that an event costs its depth however many watchers there are, and the removal of a
directory looks only at watched paths below it, never at its children.
"""

import enum
from collections.abc import Callable, Iterator
from typing import Final, final

from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.keyspace.event_history import EventHistory, HistoryClearedError, event_bytes
from kvraft.keyspace.events import Action, Event
from kvraft.keyspace.tree import Directory

WATCHER_BYTES_MAX: Final = 64 << 10
"""Events delivered to a watcher and not consumed, in `event_bytes`: a hundred ordinary ones. One event always fits,
however large. A watcher with more to come waits for its consumer, and goes on from the history: what many wait for is
held there once."""

CATCH_UP_EVENTS: Final = 1000
"""Events looked at in one slice of catching up: a few milliseconds."""

READ_EVENTS: Final = 128
"""Events taken from the history at a time, so that a one-shot watch that matches early reads little."""


class CloseReason(enum.Enum):
    """Why the hub ended a watch."""

    CLEARED = "the history does not reach back far enough"


@final
class Watcher:
    """One open watch. Made by `WatcherHub.watch`."""

    __slots__ = (
        "_catching_up",
        "_hub",
        "_next_index",
        "_point",
        "_prefix",
        "on_close",
        "on_event",
        "open",
        "path",
        "recursive",
        "start_index",
        "stream",
        "unconsumed_bytes",
    )

    def __init__(
        self,
        hub: "WatcherHub",
        path: bytes,
        recursive: bool,
        stream: bool,
        since_index: int,
        on_event: Callable[[Event], None],
        on_close: Callable[[CloseReason], None] | None,
    ) -> None:
        self.path = path
        self.recursive = recursive
        self.stream = stream
        self.start_index = hub.history.last_index
        """The store's etcd_index when the watch was opened."""
        self.on_event = on_event
        self.on_close = on_close
        self.open = True
        """False once it was cancelled or closed, or has delivered its only event."""
        self.unconsumed_bytes = 0
        self._catching_up = False
        self._hub = hub
        self._prefix = path if path == b"/" else path + b"/"
        self._next_index = since_index
        """Events below are not for this watcher: not asked for, or delivered already while it was catching up."""
        self._point: WatchPoint | None = None
        """Where it stands in the trie; None while it catches up."""

    @property
    def live(self) -> bool:
        """Whether it has caught up with the history."""
        return self._point is not None

    def catch_up(self, events_max: int = CATCH_UP_EVENTS) -> bool:
        """Deliver what the history holds, looking at up to `events_max` events; True if more is to be looked at.

        False also when what was delivered must be consumed first; call again after `consumed()`.
        """
        if self._catching_up:
            # A callback asks for more while it is given some: the loop that called it goes on anyway.
            return False
        self._catching_up = True
        try:
            return self._catch_up(events_max)
        finally:
            self._catching_up = False

    def consumed(self) -> None:
        """Everything delivered so far has left the process."""
        self.unconsumed_bytes = 0

    def cancel(self) -> None:
        """End the watch: nothing is called afterwards. In O(1), again without effect."""
        self._hub.remove(self)

    def matches(self, event: Event) -> bool:
        """Whether a scan of the history finds this event for this watcher, whatever its index.

        etcd's scan ignores the hidden rule and compares path prefixes without their slash (contract A.7 d, e); this
        does not. As etcd's, it takes the removal of a directory for everything below: nobody remembers what existed.
        """
        if event.refresh:
            return False
        path = event.node.path
        if path == self.path:
            return True
        if self.recursive and path.startswith(self._prefix):
            return b"/_" not in path[len(self._prefix) - 1 :]
        return _removes_directory(event) and self.path.startswith(path + b"/")

    def _catch_up(self, events_max: int) -> bool:
        history = self._hub.history
        while self.open and self._point is None:
            if self._next_index < history.floor:
                self._hub.close(self, CloseReason.CLEARED)
                return False
            if self._next_index > history.last_index:
                self._hub.go_live(self, self._next_index)
                return False
            if events_max <= 0:
                return True
            try:
                events = history.read(self._next_index, min(READ_EVENTS, events_max))
            except HistoryClearedError:
                self._hub.close(self, CloseReason.CLEARED)
                return False
            events_max -= len(events)
            if not self._scan(events):
                return False
        return False

    def _scan(self, events: list[Event]) -> bool:
        """Deliver the matching ones; False when the watch has ended or must wait for its consumer."""
        for event in events:
            if not self.matches(event):
                continue
            size = event_bytes(event)
            if self.unconsumed_bytes and self.unconsumed_bytes + size > WATCHER_BYTES_MAX:
                self._next_index = event.etcd_index
                return False
            self._hub.deliver(self, event, size)
            if not self.open:
                return False
        self._next_index = events[-1].etcd_index + 1
        return True


@final
class WatchPoint:
    """A path that is watched, or leads to one."""

    __slots__ = ("children", "name", "parent", "path_bytes", "watchers")

    def __init__(self, parent: "WatchPoint | None", name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.children: dict[bytes, WatchPoint] = {}
        self.watchers: dict[Watcher, None] = {}
        self.path_bytes: int = 0 if parent is None else parent.path_bytes + 1 + len(name)
        """Length of its path; 0 for the root."""


@final
class WatcherHub:
    """All watchers of a member, and the history that they start from."""

    def __init__(self, history: EventHistory | None = None) -> None:
        self.history = history if history is not None else EventHistory()
        """The applied history: set by the keyspace that this hub is given to."""
        self._root = WatchPoint(None, b"")
        self._live_count = 0
        self._catching_up: dict[Watcher, None] = {}
        self._behind_index = 0
        """After an install: the first index that live watchers have not seen. 0: they have seen everything."""
        self.on_rights_changed: list[Callable[[], None]] = []
        """Called when users, roles or auth have changed, before any later event: who may watch is judged anew."""

    @property
    def count(self) -> int:
        """Open watchers."""
        return self._live_count + len(self._catching_up)

    @property
    def has_live(self) -> bool:
        """Whether an applied event can concern anyone; asked once an event."""
        return self._live_count > 0

    def rights_changed(self) -> None:
        """Users, roles or auth are not what they were."""
        for judge_anew in self.on_rights_changed:
            judge_anew()

    def watch(
        self,
        path: bytes,
        *,
        recursive: bool,
        stream: bool,
        since_index: int,
        on_event: Callable[[Event], None],
        on_close: Callable[[CloseReason], None] | None = None,
    ) -> Watcher | EtcdError:
        """Open a watch on events with at least index `since_index`, 0 for the next one. Calls nothing back yet.

        The path need not exist. A 401 error when `since_index` is below the history's floor.
        """
        history = self.history
        first = since_index or history.last_index + 1
        if first < history.floor:
            cause = b"the requested history has been cleared [%d/%d]" % (history.floor, first)
            return EtcdError(ErrorCode.EVENT_INDEX_CLEARED, cause, history.last_index)
        watcher = Watcher(self, path, recursive, stream, first, on_event, on_close)
        if first > history.last_index:
            self.go_live(watcher, first)
        else:
            self._catching_up[watcher] = None
        return watcher

    def doomed_below(self, path: bytes, directory: Directory) -> list["WatchPoint"]:
        """Watched paths strictly below `path` at which nodes exist, asked before `directory` (at `path`) is removed."""
        point = self._find(path)
        if point is None:
            return []
        doomed: list[WatchPoint] = []
        stack = [(point, directory)]
        while stack:
            above, above_directory = stack.pop()
            for name, child in above.children.items():
                node = above_directory.children.get(name)
                if node is None:
                    continue
                if child.watchers:
                    doomed.append(child)
                if child.children and isinstance(node, Directory):
                    stack.append((child, node))
        return doomed

    def publish(self, event: Event, doomed: list["WatchPoint"]) -> None:
        """Deliver an event just applied to the live watchers; `doomed` is what `doomed_below` gave before a removal."""
        if event.refresh or self._behind_index:
            return
        self._publish(event, doomed)

    def resume_after_install(self, history: EventHistory) -> None:
        """Another history has replaced the hub's, further ahead: let live watchers see what lies between.

        Those that need an event below the new floor are closed. Call `catch_up` until it returns False.
        """
        first_unseen = self._behind_index or self.history.last_index + 1
        assert history.last_index >= first_unseen - 1
        self.history = history
        self._behind_index = first_unseen if self._live_count else 0
        if not self._behind_index or first_unseen >= history.floor:
            return
        for point in list(self._points_below(self._root)):
            for watcher in list(point.watchers):
                if watcher._next_index < history.floor:  # noqa: SLF001 -- hub and watcher are one thing in two classes
                    self.close(watcher, CloseReason.CLEARED)
        self._behind_index = history.floor

    def catch_up(self, events_max: int = CATCH_UP_EVENTS) -> bool:
        """Deliver to all live watchers what an install has skipped, up to `events_max` events; True if more is left.

        Which nodes existed below a directory when it was removed is not known here, so every watcher below is told.
        """
        while self._behind_index:
            if self._behind_index > self.history.last_index:
                self._behind_index = 0
                return False
            if events_max <= 0:
                return True
            if self._behind_index < self.history.floor:
                # The history was trimmed while we lagged: as after an install that skips too much.
                self.resume_after_install(self.history)
                continue
            try:
                events = self.history.read(self._behind_index, min(READ_EVENTS, events_max))
            except HistoryClearedError:
                # Another install is under way: it closes whoever it makes miss something.
                return False
            events_max -= len(events)
            for event in events:
                # First, so that a watch opened by a callback is not told of this event again.
                self._behind_index = event.etcd_index + 1
                if not event.refresh:
                    below = self._find(event.node.path) if _removes_directory(event) else None
                    self._publish(event, [] if below is None else list(self._points_below(below)))
        return False

    def go_live(self, watcher: Watcher, since_index: int) -> None:
        """Register a watcher that has seen all it wants below `since_index`."""
        self._catching_up.pop(watcher, None)
        point = self._root
        if watcher.path != b"/":
            for name in watcher.path[1:].split(b"/"):
                child = point.children.get(name)
                if child is None:
                    child = point.children[name] = WatchPoint(point, name)
                point = child
        point.watchers[watcher] = None
        watcher._point = point  # noqa: SLF001 -- hub and watcher are one thing in two classes
        watcher._next_index = since_index  # noqa: SLF001 -- see above
        self._live_count += 1

    def deliver(self, watcher: Watcher, event: Event, size: int) -> None:
        """Call back with one event, unless too much is unconsumed.

        Such a watcher goes on by itself when it has consumed: from the history, and as fast as it goes on consuming.
        """
        if watcher.unconsumed_bytes and watcher.unconsumed_bytes + size > WATCHER_BYTES_MAX:
            self._leave_trie(watcher)
            watcher._next_index = event.etcd_index  # noqa: SLF001 -- hub and watcher are one thing in two classes
            self._catching_up[watcher] = None
            return
        watcher.unconsumed_bytes += size
        if not watcher.stream:
            self.remove(watcher)
        watcher.on_event(event)

    def close(self, watcher: Watcher, reason: CloseReason) -> None:
        """End a watch visibly."""
        self.remove(watcher)
        if watcher.on_close is not None:
            watcher.on_close(reason)

    def remove(self, watcher: Watcher) -> None:
        """Forget a watcher, and the trie's points that only led to it."""
        if not watcher.open:
            return
        watcher.open = False
        if watcher.live:
            self._leave_trie(watcher)
        else:
            del self._catching_up[watcher]

    def _leave_trie(self, watcher: Watcher) -> None:
        point, watcher._point = watcher._point, None  # noqa: SLF001 -- hub and watcher are one thing in two classes
        assert point is not None
        del point.watchers[watcher]
        self._live_count -= 1
        while not point.watchers and not point.children and point.parent is not None:
            del point.parent.children[point.name]
            point = point.parent

    def _publish(self, event: Event, below: list["WatchPoint"]) -> None:
        index = event.etcd_index
        path = event.node.path
        concerned = [watcher for point in below for watcher in point.watchers]
        hidden_at = path.rfind(b"/_")
        point = self._root
        names = path[1:].split(b"/") if path != b"/" else []
        for name in names:
            if point.watchers and point.path_bytes > hidden_at:
                concerned.extend(watcher for watcher in point.watchers if watcher.recursive)
            child = point.children.get(name)
            if child is None:
                break
            point = child
        else:
            concerned.extend(point.watchers)
        if not concerned:
            return
        size = event_bytes(event)
        for watcher in concerned:
            # A callback before may have closed it.
            if watcher.open and watcher._next_index <= index:  # noqa: SLF001 -- hub and watcher are one thing
                self.deliver(watcher, event, size)

    def _find(self, path: bytes) -> "WatchPoint | None":
        point: WatchPoint | None = self._root
        if path == b"/":
            return point
        for name in path[1:].split(b"/"):
            if point is None:
                return None
            point = point.children.get(name)
        return point

    def _points_below(self, point: "WatchPoint") -> Iterator["WatchPoint"]:
        """Points strictly below, and the root itself when asked for it."""
        stack = [point]
        if point.parent is None:
            yield point
        while stack:
            for child in stack.pop().children.values():
                yield child
                stack.append(child)


def _removes_directory(event: Event) -> bool:
    return event.node.directory and (event.action is Action.DELETE or event.action is Action.EXPIRE)
