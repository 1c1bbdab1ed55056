"""/v2/auth: users, roles, and turning auth on and off (etcd v3.4 api/v2http/client_auth.go).

Who may ask is judged before anything comes here; a change is judged once more where it is applied (`guard.py`).
Passwords are hashed here, before they are part of anything that is kept.
"""

import re
from typing import Final, final

from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer
from kvraft.api_v2.backend import Backend, Written
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.go_forms import is_good_query
from kvraft.api_v2.go_json import render
from kvraft.api_v2.go_json_reader import Value, first_value
from kvraft.api_v2.go_json_scanner import GoJsonError
from kvraft.api_v2.go_structs import fields, text, texts
from kvraft.api_v2.guard import Guard
from kvraft.api_v2.key_responses import json_headers
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
from kvraft.keyspace.account_records import ROOT, Role, User
from kvraft.keyspace.accounts import AccountError, Accounts, AccountsAnswer
from kvraft.keyspace.command_codec import ARRAY_ITEMS_MAX, TEXT_BYTES_MAX
from kvraft.keyspace.errors import EtcdError
from kvraft.security.passwords import Passwords

PREFIX: Final = b"/v2/auth/"
_JSON_END: Final = b"\n"
_HIDDEN: Final = "_"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@final
class Auth:
    """What is served below /v2/auth."""

    def __init__(self, backend: Backend, guard: Guard, passwords: Passwords) -> None:
        self._backend = backend
        self._guard = guard
        self._passwords = passwords

    def enable(self, method: bytes, exchange: Exchange) -> None:
        """/v2/auth/enable: whether auth is on, and turning it on and off."""
        if method == b"GET":
            exchange.answer(self._shown({"enabled": self._guard.is_on}))
        else:
            self._change(EnableAuth() if method == b"PUT" else DisableAuth(), exchange)

    def users(self, query: bytes, exchange: Exchange) -> None:
        """Every user with those of his roles that exist. As in etcd, hidden are those whose name begins with `_`."""
        accounts = self._guard.accounts
        shown = [
            _user_fields(user, [role for role in map(accounts.role, user.roles_in_force) if isinstance(role, Role)])
            for name, user in sorted(accounts.users.items())
            if not name.startswith(_HIDDEN)
        ]
        self._answer_form(query, {"users": shown or None}, exchange)

    def roles(self, query: bytes, exchange: Exchange) -> None:
        """Every role, also the one that is not stored."""
        accounts = self._guard.accounts
        names = sorted([ROOT, *(name for name in accounts.roles if not name.startswith(_HIDDEN))])
        shown = [_role_fields(role) for role in map(accounts.role, names) if isinstance(role, Role)]
        self._answer_form(query, {"roles": shown}, exchange)

    def user(self, method: bytes, name: bytes, query: bytes, body: bytes, exchange: Exchange) -> None:
        """One user."""
        known = name.decode("utf-8", "surrogateescape")
        if method == b"GET":
            shown = _shown_user(self._guard.accounts, known)
            if isinstance(shown, AccountError):
                exchange.answer(self._refused(shown))
            else:
                self._answer_form(query, shown, exchange)
        elif method == b"DELETE":
            self._delete(DeleteUser(known), f"User {known} does not exist", exchange)
        else:
            self._put_user(name, body, exchange)

    def role(self, method: bytes, name: bytes, body: bytes, exchange: Exchange) -> None:
        """One role."""
        known = name.decode("utf-8", "surrogateescape")
        if method == b"GET":
            role = self._guard.accounts.role(known)
            exchange.answer(self._refused(role) if isinstance(role, AccountError) else self._shown(_role_fields(role)))
        elif method == b"DELETE":
            self._delete(DeleteRole(known), f"Role {known} doesn't exist.", exchange)
        else:
            self._put_role(name, body, exchange)

    # -- changes ------------------------------------------------------------------------------------------------

    def _delete(self, command: DeleteUser | DeleteRole, unknown: str, exchange: Exchange) -> None:
        if _SURROGATE.search(command.name):
            # Nobody has a name that is not UTF-8, and no entry can hold one.
            exchange.answer(self._refused(AccountError(404, unknown)))
        else:
            self._change(command, exchange)

    def _put_user(self, name: bytes, body: bytes, exchange: Exchange) -> None:
        try:
            asked, password = _read_user(body)
        except GoJsonError:
            exchange.answer(self._message(400, b"Invalid JSON in request body."))
            return
        if asked.name.encode() != name:
            exchange.answer(self._message(400, b"User JSON name does not match the name in the URL"))
        elif asked.roles and (asked.grant or asked.revoke):
            exchange.answer(self._message(400, b"User JSON contains both roles and grant/revoke"))
        elif too_much := _too_much(asked.name, asked.roles, asked.grant, asked.revoke):
            exchange.answer(self._message(400, too_much))
        elif not password:
            self._change(asked, exchange)
        else:

            def hashed(password_hash: bytes | None) -> None:
                if password_hash is None:
                    exchange.answer(self._message(500, b"Internal Server Error"))
                else:
                    self._change(PutUser(asked.name, password_hash, asked.roles, asked.grant, asked.revoke), exchange)

            self._passwords.hash(password.encode(), hashed)

    def _put_role(self, name: bytes, body: bytes, exchange: Exchange) -> None:
        try:
            asked = _read_role(body)
        except GoJsonError:
            exchange.answer(self._message(400, b"Invalid JSON in request body."))
            return
        given = [each for each in (asked.permissions, asked.grant) if each is not None]
        patterns = [each.read for each in given] + [each.write for each in given]
        revoked = () if asked.revoke is None else (asked.revoke.read, asked.revoke.write)
        is_update = any(each is not None and not each.is_empty for each in (asked.grant, asked.revoke))
        if asked.name.encode() != name:
            exchange.answer(self._message(400, b"Role JSON name does not match the name in the URL"))
        elif is_update and not asked.permissions.is_empty:
            exchange.answer(self._message(400, b"Role JSON contains both permissions and grant/revoke"))
        elif any("" in (each or ()) for each in patterns):
            # etcd takes it, and breaks off every request that it then has to judge by it.
            exchange.answer(self._message(400, b"auth: An empty pattern allows nothing: leave it out"))
        elif too_much := _too_much(asked.name, *patterns, *revoked):
            exchange.answer(self._message(400, too_much))
        else:
            self._change(asked, exchange)

    def _change(self, command: AccountCommand, exchange: Exchange) -> None:
        def done(outcome: Written | EtcdError) -> None:
            try:
                exchange.answer(self._changed(outcome))
            except Exception:
                exchange.abort()  # its client must not wait for an answer that cannot be made
                raise

        self._guard.submit(command, exchange, done)

    def _changed(self, outcome: Written | EtcdError) -> Answer:
        if isinstance(outcome, EtcdError):
            return self._message(500, b"Internal Server Error")
        answer = outcome.event
        assert isinstance(answer, AccountsAnswer), "a command about accounts gets their answer"
        made = answer.outcome
        if isinstance(made, AccountError):
            return self._refused(made)
        if made is None:
            return Answer(200, json_headers(self._backend.cluster_id), b"")
        status = 201 if answer.created else 200
        if isinstance(made, User):
            return self._shown({"user": made.name, "roles": made.roles}, status)
        return self._shown(_role_fields(made), status)

    # -- answers ------------------------------------------------------------------------------------------------

    def _answer_form(self, query: bytes, shown: dict[str, object], exchange: Exchange) -> None:
        """Answer where etcd looks at the form, though it uses nothing of it."""
        if is_good_query(query):
            exchange.answer(self._shown(shown))
        else:
            exchange.answer(self._message(500, b"Internal Server Error"))

    def _shown(self, body: dict[str, object], status: int = 200) -> Answer:
        return Answer(status, json_headers(self._backend.cluster_id), render(body) + _JSON_END)

    def _refused(self, error: AccountError) -> Answer:
        return self._message(error.status, b"auth: " + error.text.encode("utf-8", "surrogateescape"))

    def _message(self, status: int, words: bytes) -> Answer:
        return errors.message(status, words, json_headers(self._backend.cluster_id))


def pieces(path: bytes) -> list[bytes]:
    """The names below /v2/auth in a clean path: `users`, or `users` and `u`, or more."""
    return path.removeprefix(PREFIX).rstrip(b"/").split(b"/")


def _shown_user(accounts: Accounts, name: str) -> dict[str, object] | AccountError:
    """One user with all his roles; if one of them is missing, etcd shows nothing."""
    user = accounts.user(name)
    if isinstance(user, AccountError):
        return user
    roles = []
    for role in map(accounts.role, user.roles_in_force):
        if isinstance(role, AccountError):
            return role
        roles.append(role)
    return _user_fields(user, roles)


def _user_fields(user: User, roles: list[Role]) -> dict[str, object]:
    shown: dict[str, object] = {"user": user.name}
    if roles:
        shown["roles"] = [_role_fields(role) for role in roles]
    return shown


def _role_fields(role: Role) -> dict[str, object]:
    shown: dict[str, object] = {"role": role.name, "permissions": _permission_fields(role.permissions)}
    for name, permissions in (("grant", role.grant), ("revoke", role.revoke)):
        if permissions is not None:
            shown[name] = _permission_fields(permissions)
    return shown


def _permission_fields(permissions: Permissions) -> dict[str, object]:
    return {"kv": {"read": permissions.read, "write": permissions.write}}


def _read_user(body: bytes) -> tuple[PutUser, str]:
    """The command that a body asks for, without its password, and the password."""
    name = password = ""
    lists: dict[str, tuple[str, ...] | None] = dict.fromkeys(("roles", "grant", "revoke"))
    for field, value in fields(first_value(body)):
        if field == "user":
            name = text(value, name)
        elif field == "password":
            password = text(value, password)
        elif field in lists:
            lists[field] = texts(value)
    return PutUser(name, b"", lists["roles"], lists["grant"] or (), lists["revoke"] or ()), password


def _read_role(body: bytes) -> PutRole:
    name = ""
    given: dict[str, Permissions | None] = dict.fromkeys(("permissions", "grant", "revoke"))
    for field, value in fields(first_value(body)):
        if field == "role":
            name = text(value, name)
        elif field in given:
            # null takes a pointer away, and leaves a struct as it is.
            is_taken_away = value is None and field != "permissions"
            given[field] = None if is_taken_away else _read_permissions(value, given[field] or Permissions())
    return PutRole(name, given["permissions"] or Permissions(), given["grant"], given["revoke"])


def _read_permissions(value: Value, before: Permissions) -> Permissions:
    lists = {"read": before.read, "write": before.write}
    for field, inner in fields(value):
        if field != "kv":
            continue
        for kind, patterns in fields(inner):
            if kind in lists:
                lists[kind] = texts(patterns)
    return Permissions(lists["read"], lists["write"])


def _too_much(name: str, *lists: tuple[str, ...] | None) -> bytes:
    """What of a request no entry of the log may hold; empty if it fits."""
    if any(len(items or ()) > ARRAY_ITEMS_MAX for items in lists):
        return b"auth: At most %d roles or patterns at once: give them in parts" % ARRAY_ITEMS_MAX
    if any(len(item.encode()) > TEXT_BYTES_MAX for item in (name, *(item for items in lists for item in items or ()))):
        return b"auth: A name or pattern is at most %d bytes long" % TEXT_BYTES_MAX
    return b""
