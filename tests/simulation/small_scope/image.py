"""What of a server counts as its state, as a plain tuple, with its servers renamed.

Every slot of the core's objects counts unless it is named here, so a new one is not forgotten. Two states whose images
are equal behave alike from then on.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Final

from kvraft.raft.effects import HardState, Persist
from kvraft.raft.entries import Entry

Renaming = tuple[int, ...]
"""The new id of each server at the place of its old one; 0 stays 0."""

_SERVER: Final = frozenset({"server_id", "voted_for", "leader_id", "gone_leader_id", "to_server", "kept_waiting"})
"""Slots that hold a server's id."""
_BY_SERVER: Final = frozenset({"votes", "progress"})
"""Slots that hold a dictionary from a server's id."""
_BATCH: Final = frozenset({"issued_id", "_sync_id", "_promise_id", "batch_id", "after_batch"})
"""Slots that number batches; only what is not durable yet can be told apart."""
_NOT_STATE: Final = frozenset(
    {
        "_bytes_evicted",
        "_after_disk",
        "_end",
        "_ends",
        "_reader",
        "_tail_bytes_max",
        "_unapplied",
        "best_rival",
        "durable_id",
        "effects",
        "election_deadline_ms",
        "now_ms",
        "random",
        "settings",
        "unapplied_bytes",
    }
)
"""The same in all states, or following from others, or (bytes given to the applier) behind a limit never reached,
or about time: the clock stands still, and an election is an event of the search."""


class Imager:
    """Makes images of one server's objects."""

    __slots__ = ("_durable_batch", "_renaming")

    def __init__(self, renaming: Renaming, durable_batch: int) -> None:
        self._renaming = renaming
        self._durable_batch = durable_batch

    def of(self, value: object) -> Hashable:
        """A tuple that is equal for equal states."""
        if value is None or isinstance(value, int | str | bytes):
            return value
        if isinstance(value, Entry):
            return value.chain_hash
        if isinstance(value, list | tuple | deque):
            return tuple([self.of(each) for each in value])
        if isinstance(value, dict):
            return tuple(sorted([(key, self.of(each)) for key, each in value.items()]))
        kind = type(value)
        return (kind.__name__, *[self._slot(name, getattr(value, name)) for name in _slots(kind)])

    def _slot(self, name: str, value: object) -> Hashable:
        if name in _SERVER:
            assert isinstance(value, int)
            return self._renaming[value]
        if name in _BY_SERVER:
            assert isinstance(value, dict)
            return tuple(sorted([(self._renaming[server], self.of(each)) for server, each in value.items()]))
        if name in _BATCH:
            assert isinstance(value, int)
            return max(value - self._durable_batch, 0)
        if name == "_batches":
            assert isinstance(value, deque)
            return tuple([(max(batch_id - self._durable_batch, 0), last) for batch_id, last, _ in value])
        return self.of(value)

    def of_disk(self, hard_state: HardState, entries: Iterable[Entry], pending: Iterable[Persist]) -> Hashable:
        """What a server has on disk, and what is on its way there."""
        return self.of(hard_state), self.of(tuple(entries)), self.of(tuple(pending))


_SLOTS: dict[type, tuple[str, ...]] = {}


def _slots(kind: type) -> tuple[str, ...]:
    known = _SLOTS.get(kind)
    if known is None:
        names = [name for base in reversed(kind.__mro__) for name in getattr(base, "__slots__", ())]
        assert names, f"{kind} has slots, as everything in the core's state"
        known = _SLOTS[kind] = tuple(name for name in names if name not in _NOT_STATE)
    return known
