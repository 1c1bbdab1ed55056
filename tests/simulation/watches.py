"""Watching clients: each follows a path through members that crash and install snapshots, and must see all of it.

What a watcher sees is compared event by event with the changes that the committed log makes: in order, none missing,
none twice, none made up, each with its previous node (I10). A client whose member died goes on at another one, behind
the last index it has seen.
"""

from typing import Final, final

from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.events import Event
from kvraft.keyspace.json_text import decode_value
from kvraft.keyspace.watchers import CloseReason
from tests.simulation.checkers import Violation
from tests.simulation.context import Context
from tests.simulation.history import Change
from tests.simulation.member import SimulatedMember
from tests.simulation.streams import stream

_LOOK_US: Final = 300_000
_WATCHED: Final = (b"/", b"/k0", b"/k1", b"/q")


@final
class _Client:
    """One watching client."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.prefix = path if path == b"/" else path + b"/"
        self.seen_index = 0
        """Everything up to here was seen or does not concern it."""
        self.member: SimulatedMember | None = None
        self.boot = 0
        self.closed = True
        """No watch is open: another has to be opened."""
        self.opened = 0
        """Grows with each watch that it opens; an event of an earlier one is a phantom."""

    def wants(self, change: Change) -> bool:
        """Whether the change concerns this client."""
        return not change.refresh and (change.path == self.path or change.path.startswith(self.prefix))


@final
class Watches:
    """All watching clients of a run."""

    def __init__(self, context: Context, members: dict[int, SimulatedMember]) -> None:
        self._context = context
        self._members = members
        self._random = stream(context.options.seed, 0, "watches")
        self._clients = [_Client(path) for path in _WATCHED]
        self.delivered = 0

    def start(self) -> None:
        """Begin to look after the clients."""
        self._look()

    def _look(self) -> None:
        for client in self._clients:
            member = client.member
            if client.closed or member is None or not member.up or member.boots != client.boot:
                self._open(client)
        self._context.scheduler.after(_LOOK_US, self._look)

    def _open(self, client: _Client) -> None:
        member = self._members[self._random.choice(sorted(self._members))]
        machine = member.machine
        if machine is None or member.paused or member.installing:
            return
        client.opened += 1
        opened = client.opened
        first = client.seen_index + 1
        before = machine.etcd_index
        client.member, client.boot, client.closed = member, member.boots, False
        answer = machine.watch(
            client.path,
            first,
            lambda event: self._see(client, opened, event),
            lambda reason: self._closed(client, reason),
        )
        if isinstance(answer, EtcdError):
            kept = self._context.options.history_events_max
            if before - first < kept:
                raise Violation(
                    "I10", f"server {member.server_id} at {before} of {kept} events refuses a watch from {first}"
                )
            self._context.reached["watch refused with 401"] += 1
            client.seen_index = before
            client.closed = True
            return
        self._context.reached["watch resumed"] += 1

    def _closed(self, client: _Client, reason: CloseReason) -> None:
        """A watch may end visibly when a snapshot skips more than the history holds; it never just goes quiet."""
        member = client.member
        assert member is not None
        assert member.machine is not None
        kept = self._context.options.history_events_max
        if member.machine.etcd_index - client.seen_index <= kept:
            raise Violation("I10", f"the watcher of {client.path!r} on server {member.server_id} is closed: {reason}")
        self._context.reached["watch closed by a snapshot"] += 1
        client.closed = True

    def _see(self, client: _Client, opened: int, event: Event) -> None:
        events = self._context.history.events
        index = event.etcd_index
        where = f"the watcher of {client.path!r} on server {client.member.server_id if client.member else '?'}"
        if opened != client.opened or index > len(events):
            raise Violation("I10", f"{where} got event {index}, which it cannot know")
        if index <= client.seen_index:
            raise Violation("I10", f"{where} got event {index} after {client.seen_index}")
        for skipped in range(client.seen_index + 1, index):
            if client.wants(events[skipped - 1]):
                raise Violation("I10", f"{where} missed event {skipped} before {index}")
        expected = events[index - 1]
        if not client.wants(expected) or _as_change(event) != expected:
            raise Violation("I10", f"{where} saw {_as_change(event)} at {index}, the log has {expected}")
        client.seen_index = index
        self.delivered += 1

    def check_complete(self) -> None:
        """At rest, every client has seen everything that its member has applied."""
        events = self._context.history.events
        for client in self._clients:
            member = client.member
            if client.closed or member is None or member.boots != client.boot or member.machine is None:
                continue
            for index in range(client.seen_index + 1, member.machine.etcd_index + 1):
                if client.wants(events[index - 1]):
                    raise Violation("I10", f"the watcher of {client.path!r} on server {member.server_id} lacks {index}")


def _as_change(event: Event) -> Change:
    node, previous = event.node, event.prev_node
    return Change(
        event.action,
        node.path,
        None if node.value_json is None else decode_value(node.value_json),
        None if previous is None or previous.value_json is None else decode_value(previous.value_json),
        previous.modified_index if previous else 0,
        event.refresh,
    )
