"""Users, roles and whether auth is on: replicated state, with etcd's rules to the letter (v3.4 api/v2auth/auth.go).

etcd keeps all this in a tree beside the keys', with the same counter: four nodes when it is first written to, then one
change each. So a change costs as many indices here. Nothing of it can be read as a key.

The order of the checks, the texts and the statuses are etcd's, also where they are odd: null and an empty list of roles
differ, so that the first change of nothing succeeds.
"""

import json
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, NoReturn, final

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
from kvraft.keyspace.account_records import (
    ROLE,
    ROOT,
    USER,
    AccountRecords,
    ChangedAccounts,
    Role,
    User,
    decode_account,
    encode_role,
    encode_user,
    role_of,
    user_of,
)
from kvraft.keyspace.commands import Authorized, Command, MembersOwn

GUEST: Final = "guest"
"""The role of whoever does not say who he is."""
FOUNDING_CHANGES: Final = 4
"""etcd makes `/2`, `/2/users`, `/2/roles` and `/2/enabled` before its first write there."""
DIGEST_BYTES: Final = 16
_EVERYTHING: Final = Permissions(("/*",), ("/*",))


ROOT_ROLE: Final = Role(ROOT, _EVERYTHING)


@final
@dataclass(slots=True, frozen=True)
class AccountError:
    """Why nothing was changed: the HTTP status and etcd's text, without the `auth: ` before it."""

    status: int
    text: str


Changed = User | Role | None
"""What a change has made, for its answer; None: nothing to show."""


@final
@dataclass(slots=True, frozen=True)
class AccountsAnswer:
    """What a command about accounts comes to."""

    outcome: User | Role | AccountError | None
    created: bool
    """Whether a user or role is new where etcd says so (not for a user that is given roles at once)."""
    changes: int
    """So many etcd_indices it took; also a failure takes those of the founding."""
    etcd_index: int
    """The store's index afterwards."""


@final
@dataclass(slots=True, frozen=True)
class AccountsChanged:
    """A client's command was judged by accounts that are not those in force: nothing happened, judge again."""

    etcd_index: int


class _RefusedError(Exception):
    def __init__(self, status: int, text: str) -> None:
        self.error = AccountError(status, text)


def _refuse(status: int, text: str) -> NoReturn:
    raise _RefusedError(status, text)


@final
class Accounts:
    """The users and roles of one member's applied state."""

    def __init__(self) -> None:
        self.enabled = False
        """Whether requests need a right."""
        self.users: dict[str, User] = {}
        self.roles: dict[str, Role] = {}
        """Without the role root, which is not stored."""
        self.revision = 0
        """etcd_index of the last change of any of this; 0 while there was none."""
        self.digest = b""
        """Of all of this; empty while there was no change. What members compare."""
        self._founded = False
        self._records: Final = AccountRecords()

    def user(self, name: str) -> User | AccountError:
        """A user, or what etcd says if there is none."""
        user = self.users.get(name)
        return AccountError(404, f"User {name} does not exist.") if user is None else user

    def role(self, name: str) -> Role | AccountError:
        """A role, or what etcd says if there is none."""
        role = ROOT_ROLE if name == ROOT else self.roles.get(name)
        return AccountError(404, f"Role {name} does not exist.") if role is None else role

    def admitted(self, command: Command) -> Command | None:
        """What is to be carried out; None if it was judged by other accounts than these, or by none at all.

        While auth is on, only what members ask for by themselves needs no judgement.
        """
        if isinstance(command, Authorized):
            return command.command if command.revision == self.revision else None
        return command if isinstance(command, MembersOwn) else None

    # -- changes ------------------------------------------------------------------------------------------------

    def apply(self, command: AccountCommand, etcd_index: int) -> AccountsAnswer:
        """Carry a command out; `etcd_index` is the store's before it."""
        before = etcd_index
        created = False
        outcome: User | Role | AccountError | None = None
        try:
            if isinstance(command, PutUser):
                outcome, created = self._put_user(command)
                etcd_index += self._found() + 1
            elif isinstance(command, DeleteUser):
                if self.enabled and command.name == ROOT:
                    _refuse(403, "Cannot delete root user while auth is enabled.")
                etcd_index += self._found()
                if self.users.pop(command.name, None) is None:
                    _refuse(404, f"User {command.name} does not exist")
                self._records.remove(USER, command.name)
                etcd_index += 1
            elif isinstance(command, PutRole):
                outcome, created = self._put_role(command)
                etcd_index += self._found() + 1
            elif isinstance(command, DeleteRole):
                _refuse_root(command.name)
                etcd_index += self._found()
                if self.roles.pop(command.name, None) is None:
                    _refuse(404, f"Role {command.name} doesn't exist.")
                self._records.remove(ROLE, command.name)
                etcd_index += 1
            else:
                etcd_index += self._turn(command)
        except _RefusedError as refused:
            outcome = refused.error
        if etcd_index != before:
            self.revision = etcd_index
            self._seal()
        return AccountsAnswer(outcome, created, etcd_index - before, etcd_index)

    def _found(self) -> int:
        """What the nodes around users and roles cost, once."""
        changes = 0 if self._founded else FOUNDING_CHANGES
        self._founded = True
        return changes

    def _turn(self, command: EnableAuth | DisableAuth) -> int:
        """Turn auth on or off; the changes that it took."""
        changes = 1
        if isinstance(command, DisableAuth):
            if not self.enabled:
                _refuse(409, "already disabled")
            self.enabled = False
            return changes
        if self.enabled:
            _refuse(409, "already enabled")
        if ROOT not in self.users:
            _refuse(409, "No root user available, please create one")
        if GUEST not in self.roles:
            self._keep_role(Role(GUEST, _EVERYTHING))
            changes += 1
        self.enabled = True
        return changes

    def _put_user(self, command: PutUser) -> tuple[User, bool]:
        name = command.name
        assert not (command.roles and (command.grant or command.revoke)), "the API refuses it"
        is_update = bool(command.grant or command.revoke)
        old = self.users.get(name)
        if not is_update and (command.roles or old is None):
            user = self._new_user(command)
        elif old is None:
            _refuse(404, f"User {name} does not exist.")
        else:
            user = _merged_user(replace(old, roles=_shown_roles(old)), command)
        self._keep_user(user)
        return user, old is None and not is_update and not command.roles

    def _new_user(self, command: PutUser) -> User:
        name = command.name
        if not command.password_hash:
            _refuse(400, f"Cannot create user {name} with an empty password")
        if name in self.users:
            _refuse(409, f"User {name} already exists.")
        user = User(name, command.password_hash, command.roles)
        return replace(user, roles=_shown_roles(user))

    def _put_role(self, command: PutRole) -> tuple[Role, bool]:
        name = command.name
        grant, revoke = command.grant, command.revoke
        is_update = not ((grant is None or grant.is_empty) and (revoke is None or revoke.is_empty))
        _refuse_root(name)
        old = self.roles.get(name)
        if not is_update:
            if old is not None:
                _refuse(409, f"Role {name} already exists.")
            role = Role(name, command.permissions, grant, revoke)
        elif old is None:
            _refuse(404, f"Role {name} does not exist.")
        else:
            role = Role(name, _revoked(_granted(old.permissions, grant), revoke))
            if role == old:
                _refuse(400, "Role not updated. Use grant/revoke to update the role.")
        self._keep_role(role)
        return role, not is_update

    # -- to disk and back ---------------------------------------------------------------------------------------

    def take_records(self) -> ChangedAccounts:
        """What has changed of the records since the last call."""
        return self._records.take_changes()

    def head(self) -> str:
        """All but users and roles as JSON, for the meta record; empty while there was no change."""
        if not self.digest:
            return ""
        head = {
            "enabled": self.enabled,
            "revision": self.revision,
            "founded": self._founded,
            "digest": self.digest.hex(),
        }
        return json.dumps(head, separators=(",", ":"))

    @classmethod
    def from_head(cls, head: object) -> "Accounts":
        """What `head` gave, parsed: `load` the records next, and `expect_complete`.

        What an older version has written holds users and roles itself; the next flush gives them their records.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        accounts = cls()
        if not isinstance(head, dict):
            message = f"accounts are {type(head).__name__}"
            raise TypeError(message)
        accounts.enabled = bool(head["enabled"])
        accounts.revision = int(head["revision"])
        accounts._founded = bool(head["founded"])
        if "digest" in head:
            accounts.digest = bytes.fromhex(head["digest"])
            return accounts
        for stored in head["users"]:
            accounts._keep_user(user_of(stored))
        for stored in head["roles"]:
            accounts._keep_role(role_of(stored))
        accounts._seal()
        return accounts

    def load(self, key: int, record: bytes) -> None:
        """Take over a stored user or role.

        Raises:
            ValueError, TypeError: it is none, or comes twice.
        """
        account = decode_account(record)
        if isinstance(account, User):
            self._records.loaded(key, USER, account.name, record)
            self.users[account.name] = account
        else:
            self._records.loaded(key, ROLE, account.name, record)
            self.roles[account.name] = account

    def expect_complete(self) -> None:
        """Every record has come.

        Raises:
            ValueError: they are not those that were stored.
        """
        stored = self.digest
        if not (stored or self.users or self.roles):
            return
        self._seal()
        if stored != self.digest:
            message = (
                f"{len(self.users)} users and {len(self.roles)} roles come to {self.digest.hex()}, "
                f"and not to {stored.hex()} as when they were stored"
            )
            raise ValueError(message)

    def _keep_user(self, user: User) -> None:
        self.users[user.name] = user
        self._records.put(USER, user.name, encode_user(user))

    def _keep_role(self, role: Role) -> None:
        self.roles[role.name] = role
        self._records.put(ROLE, role.name, encode_role(role))

    def _seal(self) -> None:
        """Note the new state as members compare it."""
        facts = f"{int(self.enabled)} {self.revision} {int(self._founded)} ".encode()
        self.digest = blake2b(facts + self._records.sum_bytes, digest_size=DIGEST_BYTES).digest()


def _shown_roles(user: User) -> tuple[str, ...] | None:
    """What etcd has in hand when it has read a user."""
    return user.roles_in_force if user.name == ROOT else user.roles


def _refuse_root(role: str) -> None:
    if role == ROOT:
        _refuse(403, f"Cannot modify role {role}: is root role.")


def _merged_user(old: User, command: PutUser) -> User:
    name = command.name
    roles = set(old.roles or ())
    for role in command.grant:
        if role in roles:
            _refuse(409, f"Granting duplicate role {role} for user {name}")
        roles.add(role)
    for role in command.revoke:
        if role not in roles:
            _refuse(409, f"Revoking ungranted role {role} for user {name}")
        roles.remove(role)
    merged = User(name, command.password_hash or old.password_hash, tuple(sorted(roles)))
    if (merged.password_hash, merged.roles) == (old.password_hash, old.roles):
        _refuse(400, "User not updated. Use grant/revoke/password to update the user.")
    return merged


def _granted(old: Permissions, grant: Permissions | None) -> Permissions:
    if grant is None:
        return old
    return Permissions(_added("read", old.read, grant.read), _added("write", old.write, grant.write))


def _added(kind: str, old: tuple[str, ...] | None, more: tuple[str, ...] | None) -> tuple[str, ...]:
    patterns = set(old or ())
    for pattern in more or ():
        if pattern in patterns:
            _refuse(409, f"Granting duplicate {kind} permission {pattern}")
        patterns.add(pattern)
    return tuple(sorted(patterns))


def _revoked(old: Permissions, revoke: Permissions | None) -> Permissions:
    """What was not granted is not missed."""
    if revoke is None:
        return old
    return Permissions(
        tuple(sorted(set(old.read or ()) - set(revoke.read or ()))),
        tuple(sorted(set(old.write or ()) - set(revoke.write or ()))),
    )
