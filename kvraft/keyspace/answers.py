"""What a command comes to."""

from dataclasses import dataclass
from typing import final

from kvraft.keyspace.accounts import AccountsAnswer, AccountsChanged
from kvraft.keyspace.cluster import MembershipRefused
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.events import Event


@final
@dataclass(slots=True)
class Acknowledged:
    """What Sync and the commands about the cluster answer: they have no event for a client."""

    changes: int
    """Nodes expired, or 1 if the command changed something; so many etcd_indices it took."""
    etcd_index: int
    """The store's index afterwards."""


Answer = Event | EtcdError | Acknowledged | MembershipRefused | AccountsAnswer | AccountsChanged
