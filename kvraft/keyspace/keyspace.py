"""The state machine: applies one command at a time, in log order, and answers as etcd's v2 store does.

Everything here is a function of the commands and their log clocks alone, so that equal logs mean equal trees, indices,
histories and state hashes on all members.
"""

from collections.abc import Iterator
from typing import final

from kvraft.keyspace import state_hash
from kvraft.keyspace.account_commands import AccountCommand
from kvraft.keyspace.accounts import Accounts, AccountsChanged
from kvraft.keyspace.answers import Acknowledged, Answer
from kvraft.keyspace.changes import PendingChanges
from kvraft.keyspace.chronicle import Chronicle
from kvraft.keyspace.cluster import ClusterState, MembershipRefused, Refusal
from kvraft.keyspace.commands import (
    Authorized,
    ClusterCommand,
    Command,
    MembershipCommand,
    SetClusterVersion,
    SetHistorySize,
    SetHistorySizeAtIndex,
    Sync,
)
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.event_history import EVENTS_MAX, MEMORY_MAX, EventHistory, HistoryReader
from kvraft.keyspace.events import Event, NodeView
from kvraft.keyspace.json_text import escape
from kvraft.keyspace.listing import Found, Listing, render_file
from kvraft.keyspace.live_tree import LiveTree
from kvraft.keyspace.loading import Loading
from kvraft.keyspace.records import Meta
from kvraft.keyspace.state_records import StateImage
from kvraft.keyspace.stats import StoreStats
from kvraft.keyspace.store import Store
from kvraft.keyspace.tree import File, path_of
from kvraft.keyspace.views import view_of
from kvraft.keyspace.watchers import WatcherHub


@final
class Keyspace:
    """The applied state of one member."""

    def __init__(
        self,
        watchers: WatcherHub | None = None,
        history_events_max: int = EVENTS_MAX,
        history_reader: HistoryReader | None = None,
    ) -> None:
        history = EventHistory(history_events_max, history_reader)
        self._chronicle = Chronicle(watchers if watchers is not None else WatcherHub(), history)
        self._tree = LiveTree()
        self._store = Store(self._tree, self._chronicle)
        self.cluster = ClusterState()
        """Who belongs to the cluster, and its version."""
        self.accounts = Accounts()
        """Users and roles, and whether they count."""

    @property
    def etcd_index(self) -> int:
        """See `Chronicle.etcd_index`."""
        return self._chronicle.etcd_index

    @property
    def state_hash(self) -> bytes:
        """See `Chronicle.state_hash`."""
        return self._chronicle.state_hash

    @property
    def history(self) -> EventHistory:
        """The last events."""
        return self._chronicle.history

    @property
    def watchers(self) -> WatcherHub:
        """Told of every event as it is applied."""
        return self._chronicle.watchers

    @property
    def stats(self) -> StoreStats:
        """This member's own counters, not part of the state."""
        return self._store.stats

    # Reading

    def get(self, path: bytes, *, recursive: bool, in_order: bool, clock_ms: int) -> Found | EtcdError:
        """The JSON of the `node` object of a GET; see `listing.py` for the form of large ones.

        Counted in `stats`. `ttl` is counted from `clock_ms`; the caller reads `etcd_index` before other work runs.
        """
        self.stats.recursive_gets += recursive
        node = self._tree.find(path, self.etcd_index)
        if isinstance(node, EtcdError):
            self.stats.gets_fail += 1
            return node
        self.stats.gets_success += 1
        if isinstance(node, File):
            return render_file(escape(path), node, clock_ms)
        listing = Listing(path, node, recursive=recursive, in_order=in_order, clock_ms=clock_ms)
        whole = listing.start()
        if whole is not None:
            return whole
        self._tree.add_listing(listing)
        return listing

    def nodes(self, clock_ms: int = 0) -> Iterator[NodeView]:
        """Every node below the root, hidden ones too, parents first, by path component; not for use across writes."""
        for node in self._tree.nodes():
            yield view_of(path_of(node), node, clock_ms)

    def next_deadline_ms(self) -> int | None:
        """When the next node is due, in the log's clock; None while no node has a TTL."""
        return self._tree.deadlines.next_deadline_ms()

    # Applying

    def apply(self, command: Command, clock_ms: int) -> Answer:
        """Apply the command of one log entry whose clock is `clock_ms`; a failure changes only the state hash."""
        chronicle = self._chronicle
        if self.accounts.enabled or type(command) is Authorized:
            admitted = self.accounts.admitted(command)
            if admitted is None:
                chronicle.state_hash = state_hash.after_other_accounts(
                    chronicle.state_hash, chronicle.etcd_index, clock_ms
                )
                return AccountsChanged(chronicle.etcd_index)
            command = admitted
        answer = self._store.apply(command, clock_ms)
        if answer is None:
            return self._apply_other(command, clock_ms)
        if isinstance(answer, EtcdError):
            chronicle.state_hash = state_hash.after_error(chronicle.state_hash, answer, clock_ms)
        self._tree.tidy()
        return answer

    def _apply_other(self, command: Command, clock_ms: int) -> Answer:
        """What is not a client's write of a key; these answers have no event that binds them in the state hash."""
        chronicle = self._chronicle
        answer: Acknowledged | MembershipRefused
        digest = b""
        if isinstance(command, AccountCommand):
            changed = self.accounts.apply(command, chronicle.etcd_index)
            chronicle.take_indices(changed.changes)
            chronicle.state_hash = state_hash.after_accounts(
                chronicle.state_hash, changed, self.accounts.digest, clock_ms
            )
            if changed.changes:
                self.watchers.rights_changed()
            return changed
        if isinstance(command, Sync):
            answer = self._store.sync(clock_ms)
        else:
            assert isinstance(command, ClusterCommand), "what was judged is taken out, once"
            answer = self._change_cluster(command)
            digest = self.cluster.digest() if isinstance(command, MembershipCommand) else b""
        if isinstance(answer, Acknowledged):
            chronicle.state_hash = state_hash.after_changes(
                chronicle.state_hash, answer.changes, answer.etcd_index, clock_ms, digest
            )
        else:
            chronicle.state_hash = state_hash.after_refusal(chronicle.state_hash, answer, clock_ms)
        self._tree.tidy()
        return answer

    def _change_cluster(self, command: ClusterCommand) -> Acknowledged | MembershipRefused:
        """Take one index for each change, with an event in the history that nobody sees, as in etcd.

        etcd has no history size, so that takes none: a new cluster of n stands at 2n + 1 whatever its size is.
        """
        if isinstance(command, SetHistorySize | SetHistorySizeAtIndex):
            changes = int(self.history.events_max != max(command.events_max, 1))
            self.history.set_events_max(max(command.events_max, 1))
            if isinstance(command, SetHistorySize):
                return Acknowledged(changes, self.etcd_index)
        elif isinstance(command, SetClusterVersion):
            changes = self.cluster.set_version(command)
        elif isinstance(command, MembershipCommand):
            outcome = self.cluster.change(command)
            if isinstance(outcome, Refusal):
                return MembershipRefused(outcome, self.etcd_index)
            changes = outcome
        else:
            changes = self.cluster.publish(command)
        self._chronicle.take_indices(changes)
        return Acknowledged(changes, self.etcd_index)

    def compared_hash(self) -> bytes:
        """What members compare: `state_hash`, then the hash of all nodes, unless removed ones are not all counted yet.

        The first is a function of the answers so far, the second of what memory holds; with users and roles, if there
        are any, before it.
        """
        node_sum = self._tree.node_sum()
        # Whoever has a hash of less than the others would be taken for astray.
        return self.state_hash + self.accounts.digest + node_sum if node_sum else self.state_hash

    # Flushing and restoring

    def begin_changes(self) -> PendingChanges:
        """Everything that has changed since the previous call, as of now, to be encoded in slices.

        One at a time: the previous one must have been encoded to its end.
        """
        history = self.history
        meta = Meta(
            etcd_index=self.etcd_index,
            state_hash=self.state_hash,
            cluster=self.cluster.copy(),
            history_events_max=history.events_max,
            history_floor=history.floor,
            history_block_bytes=dict(history.block_bytes),
            accounts=self.accounts.head(),
        )
        return self._tree.begin_changes(
            self.etcd_index, self._chronicle.begin_flush(), history.floor, meta, self.accounts.take_records()
        )

    def mark_durable(self, etcd_index: int) -> None:
        """The changes begun at `etcd_index` are stored: history up to there may be read back from disk."""
        self._chronicle.mark_durable(etcd_index)

    @property
    def unflushed_bytes(self) -> int:
        """Bytes of the events that are not durable yet, about."""
        return self._chronicle.unflushed_bytes

    def load(self, image: StateImage) -> None:
        """`begin_load` and all its slices at once."""
        loading = self.begin_load(image)
        while loading.load_some():
            pass

    def begin_load(self, image: StateImage) -> Loading:
        """Take over a stored state, in slices, into this keyspace, which must be new."""
        assert self.etcd_index == 0
        newest_max = None if self.history.reader is None else MEMORY_MAX
        return Loading(image, self._tree.root, newest_max, self._tree.deadlines.add, self._restore)

    def succeed(self, other: "Keyspace") -> None:
        """Take over the watchers and counters of the keyspace that this one, just loaded, replaces (snapshot install).

        Call `watchers.catch_up` until it returns False, for the events in between.
        """
        self._store.stats = other.stats
        self._chronicle.watchers = other.watchers
        self.watchers.resume_after_install(self.history)

    def _restore(self, meta: Meta, newest: list[Event], node_sum: int, accounts: Accounts) -> None:
        """Everything but the tree, once that is built."""
        self._chronicle.restore(meta, newest)
        self.cluster = meta.cluster
        self.accounts = accounts
        self._tree.restore(meta.etcd_index, node_sum)
