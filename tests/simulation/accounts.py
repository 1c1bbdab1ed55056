"""Users and roles in a simulated world: a model that shares no code with the keyspace, and what clients ask for.

Only writes of keys are judged, as the simulated clients read no directories and what they read is the member's own.
Every role may read everything. A client's command is judged where it arrives and carried out only if the accounts are
still those; the model says so for itself, and that whoever wrote had the right when it took effect.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Final, final

from kvraft.keyspace.account_commands import (
    AccountCommand,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    Permissions,
    PutRole,
    PutUser,
)
from kvraft.keyspace.commands import Authorized, Command, MembersOwn

ROOT: Final = "root"
GUEST: Final = "guest"
"""A role; its user has no name."""
JUDGED_BY_OTHERS: Final = -1
"""Where an error code stands: nothing happened, judge again."""
_USERS: Final = ("u0", "u1", "u2")
_ROLES: Final = ("r0", "r1", GUEST)
_CLIENTS: Final = (ROOT, ROOT, ROOT, "", *_USERS)
_PATTERNS: Final = ("/*", "/k*", "/k1", "/q*", "/k0")
_EVERYTHING: Final = "/*"
_FOUNDING: Final = 4
"""Indices of the first change, as in etcd."""

Facts = tuple[bool, int, frozenset[tuple[str, bytes, frozenset[str]]], frozenset[tuple[str, frozenset[str]]]]
"""Whether auth is on, the revision, users and roles."""


@final
@dataclass(slots=True)
class AccountsModel:
    """Users and roles as the contract has them (A.9), as far as `drawn_change` goes."""

    enabled: bool = False
    revision: int = 0
    users: dict[str, tuple[bytes, frozenset[str]]] = field(default_factory=dict)
    """Hash of the password, and roles."""
    roles: dict[str, frozenset[str]] = field(default_factory=dict)
    """What may be written."""
    founded: bool = False

    def facts(self) -> Facts:
        """All of it, to compare."""
        users = frozenset((name, *user) for name, user in self.users.items())
        return self.enabled, self.revision, users, frozenset(self.roles.items())

    def admits(self, command: Command) -> bool:
        """Whether it was judged by these accounts, or needs no judgement."""
        if isinstance(command, Authorized):
            return command.revision == self.revision
        return not self.enabled or isinstance(command, MembersOwn)

    def allows(self, user: str, command: Command) -> bool:
        """Whether a client may ask for it now."""
        if not self.enabled or user == ROOT:
            return True
        roles = (GUEST,) if not user else self.users.get(user, (b"", frozenset()))[1]
        path = getattr(command, "path", None)
        return path is not None and any(
            path.startswith(pattern[:-1].encode()) if pattern.endswith("*") else path == pattern.encode()
            for role in roles
            for pattern in self.roles.get(role, ())
        )

    def apply(self, command: AccountCommand, etcd_index: int) -> tuple[int, int]:
        """(error or 0, indices taken)."""
        error, changes = self._apply(command)
        if changes:
            self.revision = etcd_index + changes
        return error, changes

    def _apply(self, command: AccountCommand) -> tuple[int, int]:
        match command:
            case PutUser(name):
                error = self._put_user(command)
                return error, 0 if error else 1 + self._found()
            case DeleteUser(name):
                if name == ROOT and self.enabled:
                    return 403, 0
                return self._deleted(self.users.pop(name, None) is not None)
            case PutRole(name):
                error = self._put_role(command)
                return error, 0 if error else 1 + self._found()
            case DeleteRole(name):
                return self._deleted(self.roles.pop(name, None) is not None)
            case EnableAuth():
                if self.enabled or ROOT not in self.users:
                    return 409, 0
                changes = 1 + (GUEST not in self.roles)
                self.roles.setdefault(GUEST, frozenset({_EVERYTHING}))
                self.enabled = True
                return 0, changes
            case DisableAuth():
                error = 0 if self.enabled else 409
                self.enabled = False
                return error, 0 if error else 1

    def _found(self) -> int:
        changes = 0 if self.founded else _FOUNDING
        self.founded = True
        return changes

    def _deleted(self, existed: bool) -> tuple[int, int]:
        return (0 if existed else 404), self._found() + existed

    def _put_user(self, command: PutUser) -> int:
        name = command.name
        old = self.users.get(name)
        if command.roles or (old is None and not command.grant and not command.revoke):
            if old is not None:
                return 409
            self.users[name] = command.password_hash, frozenset(command.roles or ()) | ({ROOT} & {name})
            return 0
        if old is None:
            return 404
        granted, revoked = frozenset(command.grant), frozenset(command.revoke)
        if granted & old[1] or revoked - old[1]:
            return 409
        new = command.password_hash or old[0], (old[1] | granted) - revoked
        self.users[name] = new
        return 400 if new == old else 0

    def _put_role(self, command: PutRole) -> int:
        name = command.name
        old = self.roles.get(name)
        granted = frozenset((command.grant and command.grant.write) or ())
        revoked = frozenset((command.revoke and command.revoke.write) or ())
        if not granted | revoked:
            self.roles[name] = old if old is not None else frozenset(command.permissions.write or ())
            return 0 if old is None else 409
        if old is None:
            return 404
        if granted & old:
            return 409
        self.roles[name] = (old | granted) - revoked
        return 400 if self.roles[name] == old else 0


def drawn_change(random: Random) -> AccountCommand:
    """A change of users, roles or auth; root comes early and auth goes seldom."""
    choice = random.random()
    user, role, pattern = random.choice(_USERS), random.choice(_ROLES), random.choice(_PATTERNS)
    password_hash = b"hash %d" % random.randrange(1000)
    if choice < 0.12:
        return PutUser(ROOT, password_hash)
    if choice < 0.30:
        return EnableAuth()
    if choice < 0.33:
        return DisableAuth()
    if choice < 0.45:
        return PutUser(user, password_hash, (role,))
    if choice < 0.50:
        return PutUser(user, password_hash, grant=(role,))
    if choice < 0.55:
        return PutUser(user, revoke=(role,))
    if choice < 0.60:
        return DeleteUser(random.choice((user, user, ROOT)))
    if choice < 0.72:
        return PutRole(role, Permissions(("/*",), (pattern,)))
    if choice < 0.83:
        return PutRole(role, grant=Permissions((), (pattern,)))
    if choice < 0.94:
        return PutRole(role, revoke=Permissions((), (pattern,)))
    return DeleteRole(role)


def drawn_client(random: Random) -> str:
    """Who writes: a user's name, empty for nobody in particular."""
    return random.choice(_CLIENTS)
