"""Sequences while auth is on: users and roles by chance, changed on the way, and each request by somebody.

etcd compares a password in 60 ms and more and remembers nothing, so most requests come without one: what role `guest`
may do is drawn, too. Sequences with watches change nobody's rights once they watch, as kvraft ends a watch with the
right to it (docs/differences.md).
"""

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, Final, TypeGuard, final

from tests.conformance.differential.steps import Account, Ask, OpenWatch, Sequence, Step
from tests.conformance.differential.vocabulary import PATHS
from tests.conformance.wire import Answer, Request, basic

ROOT: Final = "root:rpw"
USERS: Final = ("alice", "bob")
ROLES: Final = ("r1", "r2", "guest")
LOGINS: Final = ("alice:one", "alice:two", "bob:one", "bob:two", "nobody:one", ROOT)
ENABLE: Final = "/v2/auth/enable"
FOUNDING: Final = Request(
    "PUT", b"/v2/auth/users/root", json.dumps({"user": "root", "password": ROOT.partition(":")[2]}).encode()
)
"""Once for each pair of servers: nobody can turn auth on without root."""
WITH_A_PASSWORD: Final = 0.12
WITH_A_PASSWORD_BELOW: Final = 0.5
"""Of requests for all below a directory, which etcd judges as such for users alone."""
CHANGED: Final = 0.2
"""Of the steps are preceded by a change of users or roles."""
BY_ROOT: Final = 0.5
"""Of such changes; the others are refused while auth is on."""
BY_SOMEBODY: Final = 0.15
"""Of such changes are asked for by a user, right password or not; the rest come without one."""


def secured(random: Random, sequence: Sequence) -> Sequence:
    """The same sequence with auth on from its beginning, by somebody in each step."""
    recursed = tuple(step.path for step in sequence.steps if _is_recursive(step))
    drawn = _Accounts(random, sequence.prefix, recursed)
    watched = any(isinstance(step, OpenWatch) for step in sequence.steps)
    steps = drawn.founded()
    for step in sequence.steps:
        if not watched and random.random() < CHANGED:
            steps.append(drawn.changed())
        if isinstance(step, Ask | OpenWatch):
            chance = WITH_A_PASSWORD_BELOW if _is_recursive(step) else WITH_A_PASSWORD
            login = random.choice(LOGINS) if random.random() < chance else None
            steps.append(replace(step, login=login))
    return replace(sequence, steps=tuple(steps), auth=True)


def _is_recursive(step: Step) -> TypeGuard[Ask | OpenWatch]:
    match step:
        case OpenWatch():
            return step.recursive
        case Ask():
            return any(name == "recursive" for name, _ in step.query)
        case _:
            return False


def forget(ask: Callable[[Request], Answer]) -> None:
    """Turn auth off, and remove every user and role but root's."""
    ask(Request("DELETE", ENABLE.encode(), headers=(basic(ROOT),)))
    for kind, called in (("users", "user"), ("roles", "role")):
        for found in json.loads(ask(Request("GET", f"/v2/auth/{kind}".encode())).body)[kind] or ():
            if found[called] != "root":
                ask(Request("DELETE", f"/v2/auth/{kind}/{found[called]}".encode()))


@final
class _Accounts:
    """Changes of users and roles, whose patterns meet the keys of one sequence."""

    def __init__(self, random: Random, prefix: str, recursed: tuple[str, ...]) -> None:
        """`recursed`: directories below which the sequence asks for everything."""
        self._random = random
        self._prefix = prefix
        self._recursed = recursed

    def founded(self) -> list[Step]:
        """Roles, users and auth, before anything else; at times without a role `guest`, which then may do all."""
        roles = ROLES if self._random.random() < 0.7 else ROLES[:2]
        steps: list[Step] = [
            Account("PUT", f"/v2/auth/roles/{role}", json.dumps({"role": role, "permissions": self._rights()}))
            for role in roles
        ]
        for user in USERS:
            body = {"user": user, "password": "one", "roles": self._some(ROLES)}
            steps.append(Account("PUT", f"/v2/auth/users/{user}", json.dumps(body)))
        return [*steps, Account("PUT", ENABLE, None)]

    def changed(self) -> Account:
        """A change, or a look at what there is."""
        login = self._login()
        kind = self._random.choices(("role", "user", "look", "on", "off"), (8, 5, 3, 2, 1))[0]
        match kind:
            case "on":
                return Account("PUT", ENABLE, None, login)
            case "off":
                return Account("DELETE", ENABLE, None, login)
            case "look":
                paths = ("users", "roles", f"users/{self._one(USERS)}", f"roles/{self._one(ROLES)}", "enable")
                return Account("GET", f"/v2/auth/{self._one(paths)}", None, login)
            case "role":
                return self._change("roles", "role", self._one(ROLES), self._of_role(), login)
            case _:
                return self._change("users", "user", self._one(USERS), self._of_user(), login)

    def _login(self) -> str | None:
        drawn = self._random.random()
        if drawn < BY_ROOT:
            return ROOT
        return self._one(LOGINS[:-1]) if drawn < BY_ROOT + BY_SOMEBODY else None

    def _change(self, kind: str, called: str, name: str, given: dict[str, Any], login: str | None) -> Account:
        target = f"/v2/auth/{kind}/{name}"
        if self._random.random() < 0.15:
            return Account("DELETE", target, None, login)
        return Account("PUT", target, json.dumps({called: name, **given}), login)

    def _of_role(self) -> dict[str, Any]:
        field = self._one(("permissions", "grant", "grant", "revoke", "revoke"))
        return {field: self._rights()}

    def _of_user(self) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if self._random.random() < 0.3:
            given["password"] = self._one(("one", "two"))
        field = self._one(("grant", "revoke", "roles", ""))
        return given if not field else given | {field: self._some(ROLES)}

    def _rights(self) -> dict[str, Any]:
        return {"kv": {"read": self._patterns(), "write": self._patterns()}}

    def _patterns(self) -> list[str]:
        """Some keys and beginnings of keys; those of everything often enough that most requests are not refused."""
        if self._random.random() < 0.4:
            return ["/*"]
        if self._recursed and self._random.random() < 0.3:
            # Not empty for the root itself: etcd takes that, and breaks off what is judged by it (docs/differences.md).
            return [self._prefix + self._one(self._recursed) or "/"]
        return [self._prefix + path + self._one(("", "*", "/*")) for path in self._some(PATHS)]

    def _some(self, choices: tuple[str, ...]) -> list[str]:
        return self._random.sample(choices, self._random.randint(0, 2))

    def _one(self, choices: tuple[str, ...]) -> str:
        return self._random.choice(choices)
