"""What a backup or a stopped member's directory holds, for people and for programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from kvraft import clock, ids
from kvraft.keyspace.keyspace import Keyspace

_NS_PER_S = 1_000_000_000


@final
@dataclass(slots=True, frozen=True)
class Contents:
    """Counted over the whole state."""

    etcd_index: int
    keys: int
    directories: int
    hidden: int
    """Of both, those that no listing shows: below a name that begins with `_`."""
    with_ttl: int
    value_bytes: int
    """As JSON, in which they are held."""
    users: int
    roles: int
    auth_enabled: bool
    members: tuple[tuple[str, str], ...]
    """Name and id of those that it was taken of."""
    first_event: int
    """The oldest etcd_index that a watch can begin with."""

    @staticmethod
    def of(keyspace: Keyspace) -> "Contents":
        """Counted."""
        keys = directories = hidden = with_ttl = value_bytes = 0
        for node in keyspace.nodes():
            if node.directory:
                directories += 1
            else:
                keys += 1
                value_bytes += len(node.value_json or b"") - 2
            hidden += b"/_" in node.path
            with_ttl += bool(node.expiration_ns)
        accounts = keyspace.accounts
        members = sorted((member.name, ids.text(each)) for each, member in keyspace.cluster.members.items())
        return Contents(
            keyspace.etcd_index,
            keys,
            directories,
            hidden,
            with_ttl,
            value_bytes,
            len(accounts.users),
            len(accounts.roles),
            accounts.enabled,
            tuple(members),
            keyspace.history.floor,
        )

    def facts(self) -> Mapping[str, object]:
        """For --json, and line by line for people."""
        return {
            "etcd_index": self.etcd_index,
            "keys": self.keys,
            "directories": self.directories,
            "hidden": self.hidden,
            "with_ttl": self.with_ttl,
            "value_bytes": self.value_bytes,
            "users": self.users,
            "roles": self.roles,
            "auth": self.auth_enabled,
            "members": [{"name": name, "id": each} for name, each in self.members],
            "first_event": self.first_event,
        }


def moment(unix_ns: int) -> str:
    """`2026-11-21T02:10:33Z`."""
    return f"{clock.utc_text(unix_ns // _NS_PER_S)}Z"
