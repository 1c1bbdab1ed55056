"""What an entry can ask of the keyspace. Paths are normalized bytes (`/a/b`, root `/`); values are raw bytes."""

from dataclasses import dataclass
from typing import final

from kvraft.keyspace.account_commands import AccountCommand

NO_TTL = -1
"""`ttl_s` of a node that never expires."""


@final
@dataclass(slots=True)
class Set:
    """Create or replace a node (PUT without conditions). With `refresh` keep the value and wake no watcher."""

    path: bytes
    value: bytes = b""
    directory: bool = False
    ttl_s: int = NO_TTL
    """Whole seconds, 0 expires at the next sync. The deadline is the entry's clock plus this."""
    expiration_ns: int = 0
    """Unix nanoseconds shown as `expiration`: data computed by the receiving member, decides nothing. 0 without TTL."""
    refresh: bool = False


@final
@dataclass(slots=True)
class Create:
    """Create a node that must not exist (PUT prevExist=false)."""

    path: bytes
    value: bytes = b""
    directory: bool = False
    ttl_s: int = NO_TTL
    expiration_ns: int = 0
    refresh: bool = False


@final
@dataclass(slots=True)
class CreateInOrder:
    """Create a uniquely named child of `path` (POST)."""

    path: bytes
    value: bytes = b""
    directory: bool = False
    ttl_s: int = NO_TTL
    expiration_ns: int = 0


@final
@dataclass(slots=True)
class Update:
    """Change value and TTL of a node that must exist (PUT prevExist=true)."""

    path: bytes
    value: bytes = b""
    ttl_s: int = NO_TTL
    expiration_ns: int = 0
    refresh: bool = False


@final
@dataclass(slots=True)
class CompareAndSwap:
    """Replace a file if the given conditions hold."""

    path: bytes
    value: bytes = b""
    prev_value: bytes | None = None
    """None: not a condition."""
    prev_index: int = 0
    """0: not a condition. At most 2**64 - 1."""
    ttl_s: int = NO_TTL
    expiration_ns: int = 0
    refresh: bool = False


@final
@dataclass(slots=True)
class Delete:
    """Remove a file, or a directory if `directory` (then it must be empty) or `recursive` is given."""

    path: bytes
    directory: bool = False
    recursive: bool = False


@final
@dataclass(slots=True)
class CompareAndDelete:
    """Remove a file if the given conditions hold; None and 0 are no conditions."""

    path: bytes
    prev_value: bytes | None = None
    prev_index: int = 0


@final
@dataclass(slots=True)
class Sync:
    """Expire every node whose deadline is at or before the entry's clock. The only command that expires."""


@final
@dataclass(slots=True)
class RegisterFounders:
    """The founders of the cluster, from its first leader; each that is new costs one etcd_index, as in etcd.

    Of those that are known it adds what `RegisterMembers` and `PublishMember` of older versions did not say, for none.
    """

    founders: tuple[tuple[int, str, tuple[str, ...]], ...]
    """Member id, name and peer URLs of each."""


@final
@dataclass(slots=True)
class RegisterMembers:
    """What `RegisterFounders` was in logs from before peer URLs were replicated. Nobody proposes it any more."""

    member_ids: tuple[int, ...]


@final
@dataclass(slots=True)
class AddMember:
    """A member that is to come; costs one etcd_index."""

    member_id: int
    peer_urls: tuple[str, ...]
    """Sorted."""


@final
@dataclass(slots=True)
class MoveMember:
    """Other peer URLs for a member; costs one etcd_index even where they are the same, as in etcd."""

    member_id: int
    peer_urls: tuple[str, ...]
    """Sorted."""


@final
@dataclass(slots=True)
class RemoveMember:
    """A member goes, and its id is used up for ever; costs two etcd_indices, as in etcd."""

    member_id: int


@final
@dataclass(slots=True)
class KeepMember:
    """Of all members only this one stays (`--force-new-cluster`); each that goes costs what its removal does."""

    member_id: int
    removed_ids: tuple[int, ...]
    """Who goes with the others though the state does not know them yet, as founders of a young cluster."""


@final
@dataclass(slots=True)
class PublishMember:
    """A member tells its name and client URLs; costs one etcd_index when it changes something, as in etcd.

    One that has not been registered yet is so by this, for one etcd_index more: who comes first does not matter.
    """

    member_id: int
    name: str
    client_urls: tuple[str, ...]


@final
@dataclass(slots=True)
class PublishMemberAlone:
    """What `PublishMember` was in logs from before founders were registered: a new member costs it no index more.

    Nobody proposes it any more. A log that holds it must give every member the state that it gave the first.
    """

    member_id: int
    name: str
    client_urls: tuple[str, ...]


@final
@dataclass(slots=True)
class SetClusterVersion:
    """The version that every member supports; costs one etcd_index when it changes."""

    version: str


@final
@dataclass(slots=True)
class SetHistorySize:
    """How many events the history keeps: a cluster setting, proposed once by the first leader. Costs no etcd_index."""

    events_max: int


@final
@dataclass(slots=True)
class SetHistorySizeAtIndex:
    """What `SetHistorySize` was in logs of the same age: a change costs one etcd_index. Nobody proposes it any more."""

    events_max: int


MembershipCommand = RegisterFounders | AddMember | MoveMember | RemoveMember | KeepMember
"""About who belongs to the cluster."""
ClusterCommand = (
    MembershipCommand
    | RegisterMembers
    | PublishMember
    | PublishMemberAlone
    | SetClusterVersion
    | SetHistorySize
    | SetHistorySizeAtIndex
)
"""About the cluster, not about keys."""
MembersOwn = (
    Sync
    | RegisterFounders
    | RegisterMembers
    | PublishMember
    | PublishMemberAlone
    | SetClusterVersion
    | SetHistorySize
    | SetHistorySizeAtIndex
)
"""What members ask for by themselves, so that no judgement of a client's right comes with it."""
KeyCommand = Set | Create | CreateInOrder | Update | CompareAndSwap | Delete | CompareAndDelete
"""What a client can ask of the keys."""


@final
@dataclass(slots=True)
class Authorized:
    """A client's command, and the accounts by which it was found to be allowed.

    It is carried out only if they are still in force where it is applied; otherwise nothing happens, and whoever sent
    it judges it again.
    """

    revision: int
    """`Accounts.revision` of the judgement."""
    command: "Command"
    """Never another `Authorized`."""


Command = KeyCommand | MembersOwn | MembershipCommand | AccountCommand | Authorized
