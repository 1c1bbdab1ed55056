"""Users and roles, and their records: what the next flush writes of them, and one number for them all.

A record's key is a number that this member gave it; two members may have given others, as nobody compares them.
The number for all is a sum over records, whatever the order in which they came about, so that a change costs the same
however many users there are. A load must come to what was stored with the records.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, final

from kvraft.keyspace.account_commands import Permissions

ROOT: Final = "root"
"""The user that must exist while auth is on, and the role of those who may do everything."""
USER: Final = "user"
ROLE: Final = "role"
"""What a record begins with."""
ChangedAccounts = tuple[list[tuple[int, bytes]], list[int]]
"""Records by key to write, and keys to remove."""
SUM_BYTES: Final = 16
_MASK: Final = (1 << 8 * SUM_BYTES) - 1


@final
@dataclass(slots=True, frozen=True)
class User:
    """A user as stored."""

    name: str
    password_hash: bytes = field(repr=False)
    """bcrypt's text."""
    roles: tuple[str, ...] | None
    """As they were given, or sorted after the first change; None is null."""

    @property
    def roles_in_force(self) -> tuple[str, ...]:
        """The user root has the role root whatever is stored."""
        roles = self.roles or ()
        return roles if self.name != ROOT or ROOT in roles else (*roles, ROOT)


@final
@dataclass(slots=True, frozen=True)
class Role:
    """A role as stored: with `grant` and `revoke` if they were given, naming nothing, when it was made, as in etcd."""

    name: str
    permissions: Permissions
    grant: Permissions | None = None
    revoke: Permissions | None = None


@final
class AccountRecords:
    """The records of one member's users and roles, as they are on disk or will be."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[int, int]] = {}
        """By kind and name: the record's key and its hash."""
        self._next_key = 1
        self._sum = 0
        self._changed: dict[int, bytes] = {}
        """What the next flush writes, by key."""
        self._removed: set[int] = set()
        """What the next flush removes; some of it may never have been written."""

    @property
    def sum_bytes(self) -> bytes:
        """All records, each with its content, whatever their keys."""
        return (self._sum & _MASK).to_bytes(SUM_BYTES, "little")

    def put(self, kind: str, name: str, record: bytes) -> None:
        """It is new, or says something else."""
        kept = self._kept.get((kind, name))
        key, old_hash = (self._next_key, 0) if kept is None else kept
        self._next_key += kept is None
        new_hash = _hash(record)
        self._sum += new_hash - old_hash
        self._kept[kind, name] = key, new_hash
        self._changed[key] = record

    def remove(self, kind: str, name: str) -> None:
        """It is no more."""
        key, old_hash = self._kept.pop((kind, name))
        self._sum -= old_hash
        self._changed.pop(key, None)
        self._removed.add(key)

    def loaded(self, key: int, kind: str, name: str, record: bytes) -> None:
        """It was found on disk.

        Raises:
            ValueError: it was there before, under this key or another.
        """
        if (kind, name) in self._kept or key < self._next_key:
            message = f"{kind} {name!r:.80} or its key {key} comes twice"
            raise ValueError(message)
        self._next_key = key + 1
        self._kept[kind, name] = key, _hash(record)
        self._sum += self._kept[kind, name][1]

    def take_changes(self) -> ChangedAccounts:
        """What has changed since the last call."""
        changed, removed = sorted(self._changed.items()), sorted(self._removed)
        self._changed, self._removed = {}, set()
        return changed, removed


def _hash(record: bytes) -> int:
    return int.from_bytes(blake2b(record, digest_size=SUM_BYTES).digest(), "little")


def _encode(*facts: object) -> bytes:
    return json.dumps(facts, separators=(",", ":")).encode()


def encode_user(user: User) -> bytes:
    """The record of a user."""
    return _encode(USER, user.name, user.password_hash.decode(), user.roles)


def encode_role(role: Role) -> bytes:
    """The record of a role."""
    return _encode(ROLE, role.name, *map(_pair, (role.permissions, role.grant, role.revoke)))


def decode_account(record: bytes) -> User | Role:
    """What was encoded.

    Raises:
        ValueError, TypeError: it is neither user nor role.
    """
    kind, *stored = json.loads(record)
    if kind == USER:
        return user_of(stored)
    if kind == ROLE:
        return role_of(stored)
    message = f"{kind!r:.80} is neither user nor role"
    raise ValueError(message)


def user_of(stored: Sequence[object]) -> User:
    """Name, hash and roles, as JSON has them."""
    name, password_hash, roles = stored
    return User(str(name), str(password_hash).encode(), _strings(roles))


def role_of(stored: Sequence[object]) -> Role:
    """Name, permissions, grant and revoke, as JSON has them."""
    name, *permissions = stored
    granted, grant, revoke = map(_permissions, permissions)
    if granted is None:
        message = f"role {name!r:.80} has no permissions"
        raise ValueError(message)
    return Role(str(name), granted, grant, revoke)


def _permissions(stored: object) -> Permissions | None:
    if stored is None:
        return None
    if not isinstance(stored, list):
        message = f"{stored!r:.80} are no permissions"
        raise TypeError(message)
    read, write = stored
    return Permissions(_strings(read), _strings(write))


def _pair(permissions: Permissions | None) -> list[tuple[str, ...] | None] | None:
    return None if permissions is None else [permissions.read, permissions.write]


def _strings(items: object) -> tuple[str, ...] | None:
    if items is None:
        return None
    if not isinstance(items, list):
        message = f"{items!r:.80} is no list"
        raise TypeError(message)
    return tuple(str(item) for item in items)
