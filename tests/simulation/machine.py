"""The applied state of a server: the product's keyspace behind the few calls that a simulated server makes."""

import json
from collections.abc import Callable
from typing import Final, Protocol, final

from kvraft.keyspace.account_records import ROOT, Role
from kvraft.keyspace.accounts import GUEST, AccountError, AccountsAnswer, AccountsChanged
from kvraft.keyspace.command_codec import decode_command, encode_command
from kvraft.keyspace.commands import Authorized, Command, MembersOwn
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.event_history import HistoryReader
from kvraft.keyspace.events import Event
from kvraft.keyspace.json_text import decode_value
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.state_records import StateChanges, StateImage
from kvraft.keyspace.watchers import CloseReason, Watcher
from kvraft.security.rights import Rights
from tests.keyspace.flushes import take_changes
from tests.simulation.accounts import JUDGED_BY_OTHERS, Facts
from tests.simulation.model import Result

REQUEST_ID_BYTES: Final = 24
"""(member id, boot nonce, counter) before every command, as members write it."""


class Machine(Protocol):
    """A deterministic state machine."""

    @property
    def etcd_index(self) -> int:
        """The store's counter."""
        ...

    @property
    def state_hash(self) -> bytes:
        """A chain over the answers: equal histories have equal hashes, different ones do not."""
        ...

    @property
    def compared_hash(self) -> bytes:
        """What members of the product compare: of the answers so far and, if it is longer, of all nodes in memory."""
        ...

    @property
    def accounts(self) -> Facts:
        """Users and roles, and whether they count."""
        ...

    def judged(self, user: str, command: Command) -> Command | None:
        """A client's command as it goes into the log; None if he may not."""
        ...

    def encode(self, command: Command) -> bytes:
        """A command as it stands in an entry, behind the request id."""
        ...

    def apply(self, payload: bytes, clock_ms: int) -> Result:
        """Carry out one entry's payload, request id included."""
        ...

    def read(self, path: bytes) -> tuple[bytes, int] | None:
        """Value and modifiedIndex of a file; None if there is none."""
        ...

    def next_deadline_ms(self) -> int | None:
        """The earliest deadline of any node."""
        ...

    def take_changes(self) -> StateChanges:
        """What changed since the last call, for the disk."""
        ...

    def changes_stored(self, etcd_index: int) -> None:
        """What was taken when the store's counter stood there is durable."""
        ...

    def succeed(self, earlier: "Machine") -> None:
        """Take over the watchers of the machine that a snapshot replaces by this one."""
        ...

    def watch(
        self,
        path: bytes,
        since_index: int,
        on_event: Callable[[Event], None],
        on_close: Callable[[CloseReason], None],
    ) -> Watcher | EtcdError:
        """Open a recursive stream of the events from `since_index` on, and catch up at once."""
        ...


MachineFactory = Callable[[StateImage, HistoryReader], Machine]
"""A machine from a stored state; it may read its durable history back."""


@final
class KeyspaceMachine:
    """The keyspace of the product, with its codec, its records and its history."""

    def __init__(self, image: StateImage, reader: HistoryReader, history_events_max: int) -> None:
        self.keyspace = Keyspace(history_events_max=history_events_max, history_reader=reader)
        if image.meta:
            self.keyspace.load(image)

    @property
    def etcd_index(self) -> int:
        return self.keyspace.etcd_index

    @property
    def state_hash(self) -> bytes:
        return self.keyspace.state_hash

    @property
    def compared_hash(self) -> bytes:
        return self.keyspace.compared_hash()

    @property
    def accounts(self) -> Facts:
        accounts = self.keyspace.accounts
        users = frozenset(
            (user.name, user.password_hash, frozenset(user.roles or ())) for user in accounts.users.values()
        )
        roles = frozenset((role.name, frozenset(role.permissions.write or ())) for role in accounts.roles.values())
        return accounts.enabled, accounts.revision, users, roles

    def judged(self, user: str, command: Command) -> Command | None:
        accounts = self.keyspace.accounts
        if not accounts.enabled or isinstance(command, MembersOwn):
            return command
        return Authorized(accounts.revision, command) if self._may(user, command) else None

    def _may(self, user: str, command: Command) -> bool:
        """As `kvraft/api_v2/guard.py` works it out."""
        accounts = self.keyspace.accounts
        known = accounts.users.get(user)
        names = known.roles_in_force if known is not None else () if user else (GUEST,)
        roles = [role for role in map(accounts.role, names) if isinstance(role, Role)]
        patterns = [pattern for role in roles for pattern in role.permissions.write or ()]
        rights = Rights(write=patterns, is_root=ROOT in names)
        path = getattr(command, "path", None)
        return rights.is_root if path is None else rights.allows(path, write=True, recursive=False)

    def encode(self, command: Command) -> bytes:
        return encode_command(command)

    def apply(self, payload: bytes, clock_ms: int) -> Result:
        answer = self.keyspace.apply(decode_command(payload[REQUEST_ID_BYTES:]), clock_ms)
        if isinstance(answer, Event):
            node, previous = answer.node, answer.prev_node
            return Result(
                etcd_index=answer.etcd_index,
                path=node.path,
                value=_value(node.value_json),
                created_index=node.created_index,
                prev_value=_value(previous.value_json) if previous else None,
                prev_index=previous.modified_index if previous else 0,
            )
        if isinstance(answer, EtcdError):
            return Result(error_code=int(answer.code), etcd_index=answer.index)
        if isinstance(answer, AccountsChanged):
            return Result(error_code=JUDGED_BY_OTHERS, etcd_index=answer.etcd_index)
        if isinstance(answer, AccountsAnswer) and isinstance(answer.outcome, AccountError):
            return Result(error_code=answer.outcome.status, etcd_index=answer.etcd_index)
        return Result(etcd_index=answer.etcd_index)

    def read(self, path: bytes) -> tuple[bytes, int] | None:
        answer = self.keyspace.get(path, recursive=False, in_order=False, clock_ms=0)
        if isinstance(answer, EtcdError):
            return None
        assert isinstance(answer, bytes), "the simulated clients read files"
        node = json.loads(answer)
        return node["value"].encode(), node["modifiedIndex"]

    def next_deadline_ms(self) -> int | None:
        return self.keyspace.next_deadline_ms()

    def take_changes(self) -> StateChanges:
        return take_changes(self.keyspace)

    def changes_stored(self, etcd_index: int) -> None:
        self.keyspace.mark_durable(etcd_index)

    def succeed(self, earlier: Machine) -> None:
        assert isinstance(earlier, KeyspaceMachine)
        self.keyspace.succeed(earlier.keyspace)
        while self.keyspace.watchers.catch_up():
            pass

    def watch(
        self,
        path: bytes,
        since_index: int,
        on_event: Callable[[Event], None],
        on_close: Callable[[CloseReason], None],
    ) -> Watcher | EtcdError:
        opened: list[Watcher] = []

        def take(event: Event) -> None:
            for each in opened:
                each.consumed()
            on_event(event)

        watcher = self.keyspace.watchers.watch(
            path, recursive=True, stream=True, since_index=since_index, on_event=take, on_close=on_close
        )
        if isinstance(watcher, Watcher):
            opened.append(watcher)
            while watcher.catch_up():
                pass
        return watcher


def _value(value_json: bytes | None) -> bytes | None:
    return None if value_json is None else decode_value(value_json)
