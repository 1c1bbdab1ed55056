"""Removed subtrees, taken apart in slices: detaching a directory is one step, forgetting a million nodes below is not.

Until a removed node is taken apart, its record is still due for removal, and parents and children hold each other.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, final

from kvraft.keyspace.dirty_state import DirtyState
from kvraft.keyspace.tree import AnyNode, Directory

SLICE_NODES: Final = 64
"""Nodes taken apart along with each command while there are any: some 20 us."""


@final
class RemovedSubtrees:
    """Directories that left the tree with their children, first in, first out."""

    def __init__(self, forget: Callable[[AnyNode], None], preserve: Callable[[Directory], None]) -> None:
        self._forget = forget
        """Told each removed node once, for what knows nodes beside the tree (deadlines)."""
        self._preserve = preserve
        """Told each directory before its children go, for open listings."""
        self._queue: deque[tuple[Directory, DirtyState]] = deque()
        self._stack: list[Directory] = []
        """The way down in the first of the queue."""

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, directory: Directory, dirty: DirtyState) -> None:
        """Queue a detached directory; its records' removal belongs to `dirty`."""
        self._queue.append((directory, dirty))

    def waiting_for(self, dirty: DirtyState) -> bool:
        """Whether subtrees are left whose removal belongs to `dirty`; they are ahead of all later ones."""
        return bool(self._queue) and self._queue[0][1] is dirty

    def take_apart(self, nodes_max: int) -> int:
        """Forget up to `nodes_max` nodes; returns how many it were."""
        taken = 0
        while self._queue and taken < nodes_max:
            top, dirty = self._queue[0]
            if not self._stack:
                self._preserve(top)
                self._stack.append(top)
            directory = self._stack[-1]
            children = directory.children
            while children and taken < nodes_max:
                _, child = children.popitem()
                if isinstance(child, Directory) and child.children:
                    self._preserve(child)
                    self._stack.append(child)
                    break
                taken += 1
                dirty.remove(child)
                self._forget(child)
            else:
                if children:
                    return taken
                self._stack.pop()
                taken += 1
                dirty.remove(directory)
                self._forget(directory)
                if not self._stack:
                    self._queue.popleft()
        return taken
