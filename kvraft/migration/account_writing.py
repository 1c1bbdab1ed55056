"""Roles and users, made in a running cluster through its v2 API.

No API takes a hash, so a user can be made only with his password; those whose passwords are not given are named.
Auth itself is not turned on here: that is a decision of whoever moves, and it would shut out clients without users.
"""

from collections.abc import Mapping
from urllib.parse import quote

from kvraft.client import Answer, Client, EtcdError
from kvraft.keyspace.account_records import ROOT, Role, User
from kvraft.migration.changes import Difference
from kvraft.migration.contents import Contents, MigrationError
from kvraft.migration.reading import read_accounts
from kvraft.migration.writing import Patience


async def write_accounts(
    client: Client, contents: Contents, passwords: Mapping[str, str], patience: Patience
) -> list[str]:
    """Make roles and users as they are in the source; what is left to do by hand, a line each.

    Raises:
        MigrationError: the target refuses.
        ClientError: it does not answer.
    """
    there = Contents(0)
    await read_accounts(client, there)
    notes = []
    try:
        for role in contents.roles:
            before = next((each for each in there.roles if each.name == role.name), None)
            await patience.until_done(lambda role=role, before=before: _write_role(client, role, before))  # type: ignore[misc] # bound for this turn
        missing = []
        for user in contents.users:
            known = next((each for each in there.users if each.name == user.name), None)
            password = passwords.get(user.name)
            if known is None and password is None:
                missing.append(user.name)
                continue
            await patience.until_done(lambda u=user, k=known, p=password: _write_user(client, u, k, p))  # type: ignore[misc] # as above
    except EtcdError as error:
        raise MigrationError(f"the target refuses users or roles: {error}") from error
    if missing:
        names = ", ".join(missing)
        notes.append(f"not made for want of their passwords: {names}; --passwords FILE has lines of NAME:PASSWORD")
    if contents.auth_enabled and not there.auth_enabled:
        notes.append("auth is on in the source and off in the target: once its users are right, `etcdctl auth enable`")
    return notes


async def account_differences(client: Client, contents: Contents, patience: Patience) -> list[Difference]:
    """How the target's users and roles are not those of the source; one that has neither has none to compare.

    Those that cannot be read are a difference: nobody knows that there is none.

    Raises:
        ClientError: the target does not answer.
    """
    if contents.accounts_unread:
        return [Difference(b"users and roles", f"not compared: in the source, {contents.accounts_unread}", None, None)]
    if not (contents.users or contents.roles or contents.auth_enabled):
        return []
    there = Contents(0)

    async def read() -> None:
        there.users, there.roles, there.notes = [], [], []
        await read_accounts(client, there)

    await patience.until_done(read)
    if there.notes:
        return [Difference(b"users and roles", f"not compared: {there.notes[0]}", None, None)]
    roles = [{role.name: _patterns(role) for role in each.roles} for each in (contents, there)]
    users = [{user.name: set(user.roles_in_force) for user in each.users} for each in (contents, there)]
    return _apart("role", "permissions", *roles) + _apart("user", "roles", *users)


def _apart(kind: str, what: str, source: Mapping[str, object], target: Mapping[str, object]) -> list[Difference]:
    return [
        Difference(
            f"{kind} {name}".encode(),
            "missing" if name not in target else "extra" if name not in source else what,
            None,
            None,
        )
        for name in sorted({*source, *target})
        if source.get(name) != target.get(name)
    ]


def _patterns(role: Role) -> dict[str, set[str]]:
    return {"read": set(role.permissions.read or ()), "write": set(role.permissions.write or ())}


async def _write_role(client: Client, role: Role, before: Role | None) -> None:
    target = f"/v2/auth/roles/{quote(role.name, safe='')}"
    patterns = _patterns(role)
    if before is None:
        made = {"role": role.name, "permissions": _permissions(patterns)}
        _unless_there(await client.request("PUT", target, json=made))
        return
    old = _patterns(before)
    grant = {kind: patterns[kind] - old[kind] for kind in patterns}
    revoke = {kind: old[kind] - patterns[kind] for kind in patterns}
    if any(grant.values()) or any(revoke.values()):
        changed = {"role": role.name, "grant": _permissions(grant), "revoke": _permissions(revoke)}
        _unless_there(await client.request("PUT", target, json=changed))


def _permissions(patterns: Mapping[str, set[str]]) -> dict[str, dict[str, list[str]]]:
    return {"kv": {kind: sorted(names) for kind, names in patterns.items()}}


async def _write_user(client: Client, user: User, before: User | None, password: str | None) -> None:
    target = f"/v2/auth/users/{quote(user.name, safe='')}"
    if before is None:
        made: dict[str, object] = {"user": user.name, "password": password}
        # The user root has the role root by itself.
        roles = sorted(set(user.roles or ()) - ({ROOT} if user.name == ROOT else set()))
        _unless_there(await client.request("PUT", target, json=made | ({"roles": roles} if roles else {})))
        return
    grant = sorted(set(user.roles_in_force) - set(before.roles_in_force))
    revoke = sorted(set(before.roles_in_force) - set(user.roles_in_force))
    if grant or revoke:
        changed = {"user": user.name, "grant": grant, "revoke": revoke}
        (await client.request("PUT", target, json={name: facts for name, facts in changed.items() if facts})).checked()


def _unless_there(answer: Answer) -> None:
    """A conflict says that an attempt whose answer was lost has done it."""
    if answer.status != 409:
        answer.checked()
