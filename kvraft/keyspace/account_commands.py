"""What an entry can ask about users, roles and auth itself, and how a client's command says by what it was judged.

Passwords never come here: whoever takes a request hashes them first, so that no log, snapshot or state holds one.
"""

from dataclasses import dataclass, field
from typing import final


@final
@dataclass(slots=True, frozen=True)
class Permissions:
    """Patterns of keys that may be read and written: one that ends with `*` is a prefix, any other is one key.

    None is JSON's null, which etcd shows and compares as something else than an empty list.
    """

    read: tuple[str, ...] | None = None
    write: tuple[str, ...] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it names no pattern."""
        return not self.read and not self.write


@final
@dataclass(slots=True, frozen=True)
class PutUser:
    """Create a user, or change the password or roles of one: which of them, etcd tells by what is given."""

    name: str
    password_hash: bytes = field(default=b"", repr=False)
    """Empty: no password was given."""
    roles: tuple[str, ...] | None = None
    """Of a new user; None is null. With any, the user must be new, and `grant` and `revoke` are empty."""
    grant: tuple[str, ...] = ()
    revoke: tuple[str, ...] = ()


@final
@dataclass(slots=True, frozen=True)
class DeleteUser:
    """Remove a user."""

    name: str


@final
@dataclass(slots=True, frozen=True)
class PutRole:
    """Create a role, or change the patterns of one if `grant` or `revoke` name any."""

    name: str
    permissions: Permissions = Permissions()
    grant: Permissions | None = None
    revoke: Permissions | None = None


@final
@dataclass(slots=True, frozen=True)
class DeleteRole:
    """Remove a role; users keep its name."""

    name: str


@final
@dataclass(slots=True, frozen=True)
class EnableAuth:
    """From now on requests need a right."""


@final
@dataclass(slots=True, frozen=True)
class DisableAuth:
    """From now on everybody may do everything."""


AccountCommand = PutUser | DeleteUser | PutRole | DeleteRole | EnableAuth | DisableAuth
"""About users, roles and auth."""
