"""Reading and changing the log inside one LMDB transaction. Positions and rules; no threads, no files.

Meta records and groups of entries share one table, metas first: a commit then writes fewer pages than with two tables.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, final

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Persist
from kvraft.raft.entries import Entry, EntryKind, chain
from kvraft.raft.restored import LogPosition, Restored
from kvraft.storage import codec
from kvraft.storage.codec import REMEDY
from kvraft.storage.errors import CorruptStorageError
from kvraft.storage.interfaces import Transaction

INDEX_MAX: Final = (1 << 64) - 1


@final
@dataclass(slots=True)
class LogChange:
    """Several batches as one: what the environment must hold after them."""

    hard_state: HardState | None = None
    truncate_from: int = 0
    """Lowest index removed by any of them; 0: none."""
    entries: list[Entry] = field(default_factory=list)
    """What is left of their entries, consecutive."""
    peers: dict[int, int] = field(default_factory=dict)
    batch_id: int = 0
    """The last of the batches; 0: none is in here."""

    def add(self, batch: Persist) -> None:
        """Put a later batch behind the earlier ones."""
        self._add_hard_state(batch.hard_state)
        first = batch.truncate_from
        if first:
            self.truncate_from = min(first, self.truncate_from or first)
            if self.entries and first <= self.entries[-1].index:
                del self.entries[max(first - self.entries[0].index, 0) :]
        self.entries += batch.entries
        self.batch_id = batch.batch_id

    def add_lazy(self, change: "LogChange") -> None:
        """Put behind the earlier batches what waited for one to ride on: a hard state and peers."""
        assert not change.entries
        assert not change.truncate_from
        self._add_hard_state(change.hard_state)
        self.peers |= change.peers

    def _add_hard_state(self, hard_state: HardState | None) -> None:
        if hard_state is not None:
            if self.hard_state is not None:
                refuse_forgetting(self.hard_state, hard_state)
            self.hard_state = hard_state


def refuse_forgetting(stored: HardState, following: HardState) -> None:
    """What was voted stays voted: a server that forgets it may vote twice in a term (section 5.2).

    Raises:
        AssertionError: the term is lower, or the vote in the same term another one.
    """
    later = following.current_term > stored.current_term
    same = following.current_term == stored.current_term and stored.voted_for in {0, following.voted_for}
    assert later or same, (
        f"term {following.current_term} with a vote for {following.voted_for:x} would replace "
        f"term {stored.current_term} with a vote for {stored.voted_for:x}"
    )


def write_change(transaction: Transaction, shape: Restored, change: LogChange, where: str) -> Restored:
    """Apply a change, and say what the log then is."""
    last, configurations = shape.last, shape.configurations
    hard_state = shape.hard_state
    if change.hard_state is not None:
        refuse_forgetting(hard_state, change.hard_state)
        hard_state = change.hard_state
        transaction.put(codec.HARD_STATE_KEY, codec.encode_hard_state(hard_state))
    if change.truncate_from and change.truncate_from <= last.index:
        assert change.truncate_from > shape.base.index, "what a snapshot covers is committed and never removed"
        last = truncate(transaction, shape, change.truncate_from, where)
        configurations = tuple(held for held in configurations if held[0] < change.truncate_from)
    entries = change.entries
    if entries:
        assert entries[0].index == last.index + 1, f"entry {entries[0].index} does not follow {last.index}"
        assert entries[-1].index == last.index + len(entries), "entries are consecutive"
        for key, value in codec.encode_groups(entries):
            appended = transaction.put(key, value, append=True)
            assert appended, f"group {key!r} is the last one"
        last = codec.position_of(entries[-1])
        changed = [
            (entry.index, Configuration.decode(entry.payload))
            for entry in entries
            if entry.kind is EntryKind.CONFIGURATION
        ]
        configurations += tuple(changed)
    if configurations != shape.configurations:
        transaction.put(codec.CONFIGURATIONS_KEY, codec.encode_configurations(configurations))
    for member_id, index in change.peers.items():
        key = codec.peer_key(member_id)
        transaction.put(key, codec.encode_number(key, index))
    return Restored(hard_state, shape.base, last, configurations, shape.applied_index)


def truncate(transaction: Transaction, shape: Restored, first: int, where: str) -> LogPosition:
    """Remove the entries from `first` on. Returns the new end of the log."""
    found = find_group(transaction, first)
    if found is not None and codec.first_of_group_key(found[0]) < first:
        key, value = found
        kept = codec.decode_group(key, value, 0, first - 1, where)
        for kept_key, kept_value in codec.encode_groups(kept):
            transaction.put(kept_key, kept_value)
    with transaction.cursor() as cursor:
        more = cursor.set_range(codec.group_key(first))
        while more:
            more = cursor.delete()
    return position_at(transaction, shape.base, first - 1, where)


def position_at(transaction: Transaction, base: LogPosition, index: int, where: str) -> LogPosition:
    """The position of an entry that must be there, or of the base."""
    if index == base.index:
        return base
    entries = read_entries(transaction, index, index, 0, where)
    if not entries:
        raise CorruptStorageError(f"{where}: entry {index} is missing; {REMEDY}")
    return codec.position_of(entries[0])


def find_group(transaction: Transaction, index: int) -> tuple[bytes, bytes] | None:
    """The group that holds the entry at `index`, if any does."""
    key = codec.group_key(index)
    with transaction.cursor() as cursor:
        at_or_after = cursor.set_range(key)
        if at_or_after and cursor.key() == key:
            return cursor.item()
        before = cursor.prev() if at_or_after else cursor.last()
        if before and cursor.key()[:1] == codec.GROUP_PREFIX:
            return cursor.item()
    return None


def read_entries(transaction: Transaction, first: int, last: int, bytes_max: int, where: str) -> list[Entry]:
    """Entries `first`..`last`, cut after `bytes_max` of records but never before the first; empty if it is not held."""
    entries: list[Entry] = []
    size = 0
    for entry in iterate(transaction, first, last, where):
        size += len(entry.record)
        if entries and size > bytes_max:
            break
        entries.append(entry)
    return entries


def iterate(transaction: Transaction, first: int, last: int, where: str) -> Iterator[Entry]:
    """Consecutive entries from `first` on, each group verified when it is reached. Nothing if `first` is not held."""
    found = find_group(transaction, first)
    if found is None:
        return
    expected = first
    with transaction.cursor() as cursor:
        more = cursor.set_key(found[0])
        while more and expected <= last:
            key, value = cursor.item()
            for entry in codec.decode_group(key, value, expected, last, where):
                if entry.index != expected:
                    raise CorruptStorageError(f"{where}: entry {expected} is missing; {REMEDY}")
                yield entry
                expected += 1
            more = cursor.next()


def last_position(transaction: Transaction, base: LogPosition, where: str) -> LogPosition:
    """The end of the log."""
    found = find_group(transaction, INDEX_MAX)
    if found is None:
        return base
    entry = codec.decode_group(*found, 0, INDEX_MAX, where)[-1]
    return base if entry.index <= base.index else codec.position_of(entry)


def verify_chain(
    transaction: Transaction, before: LogPosition, last: int, where: str
) -> Iterator[tuple[LogPosition, Entry]]:
    """Each entry behind `before` with its position, recomputing the chain.

    Raises:
        CorruptStorageError: an entry is missing, or is not the successor of the one before it.
    """
    position = before
    for entry in iterate(transaction, before.index + 1, last, where):
        follows = entry.term >= position.term and entry.clock_ms >= position.clock_ms
        if not follows or chain(position.chain_hash, entry.record) != entry.chain_hash:
            raise CorruptStorageError(f"{where}: entry {entry.index} does not follow entry {position.index}; {REMEDY}")
        position = codec.position_of(entry)
        yield position, entry
    if position.index != last:
        raise CorruptStorageError(f"{where}: entry {position.index + 1} is missing; {REMEDY}")


def write_base(transaction: Transaction, shape: Restored, base: LogPosition) -> Restored:
    """Forget the entries up to `base`. They stay on disk, unreachable, until `remove_groups` has removed them."""
    in_force = [configuration for index, configuration in shape.configurations if index <= base.index][-1]
    later = tuple(held for held in shape.configurations if held[0] > base.index)
    configurations = ((base.index, in_force), *later)
    transaction.put(codec.BASE_KEY, codec.encode_position(codec.BASE_KEY, base))
    transaction.put(codec.CONFIGURATIONS_KEY, codec.encode_configurations(configurations))
    return replace(shape, base=base, configurations=configurations)


def remove_groups(transaction: Transaction, up_to: int, groups_max: int) -> bool:
    """Remove up to `groups_max` groups that hold nothing beyond index `up_to`. True if there may be more.

    The newest group always stays.
    """
    with transaction.cursor() as cursor:
        if not cursor.set_range(codec.GROUP_PREFIX):
            return False
        keys: list[bytes] = []
        while len(keys) < groups_max + 1:
            keys.append(cursor.key())
            if codec.first_of_group_key(keys[-1]) > up_to + 1 or not cursor.next():
                break
    removable = [key for key, following in pairwise(keys) if _ends_by(following, up_to)]
    for key in removable:
        transaction.delete(key)
    return len(removable) == groups_max


def _ends_by(following: bytes, up_to: int) -> bool:
    return codec.first_of_group_key(following) <= up_to + 1


def read_peers(transaction: Transaction, where: str) -> dict[int, int]:
    """Member id to the highest index it is known to hold.

    Raises:
        CorruptStorageError: a record is damaged, or has a key that nobody wrote: then a peer's may be missing.
    """
    peers = {}
    with transaction.cursor() as cursor:
        more = cursor.set_range(codec.META_PREFIX)
        while more and cursor.key().startswith(codec.META_PREFIX):
            key, value = cursor.item()
            if codec.is_peer_key(key):
                peers[codec.member_of_peer_key(key)] = codec.decode_number(key, value, where)
            elif key not in codec.LOG_META_KEYS:
                raise CorruptStorageError(f"{where}: record {key!r} is none of ours; {REMEDY}")
            more = cursor.next()
    return peers
