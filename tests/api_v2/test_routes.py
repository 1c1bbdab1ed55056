"""The table of routes against what is served."""

import dataclasses
from typing import Final

import pytest

from kvraft.api_v2.routes import PROFILES, ROUTES, Right, Route, find
from kvraft.api_v2.settings import ApiSettings
from kvraft.testing.raw_http import Connection
from tests.api_v2.conftest import start
from tests.api_v2.test_guard import ask, populate

_METHODS: Final = (b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"PATCH", b"FOO")
_PUBLIC: Final = {
    b"GET": {
        b"/v2/members", b"/v2/machines", b"/v2/auth/enable", b"/v2/stats/self", b"/v2/stats/leader", b"/v2/stats/store",
        b"/version", b"/health", b"/metrics", b"/debug/vars",
    },
    b"HEAD": {b"/v2/machines", b"/metrics"},
    b"PUT": {b"/config/local/log", b"/metrics"},
    b"POST": {b"/metrics"},
    b"DELETE": {b"/metrics"},
}  # fmt: skip
"""What etcd leaves open to everybody while auth is on (contract A.9, and its handler of log levels has no check)."""


def _name(route: Route) -> str:
    return route.path.decode() + ("/..." if route.below else "")


def test_who_needs_no_right_is_listed_here_too() -> None:
    """A route that is opened, or one that is added without a thought, changes two places."""
    for method in _METHODS[:5]:
        allowed = [route for route in ROUTES if not route.methods or method in route.methods]
        public = {route.path for route in allowed if route.right(method) is Right.NONE and not route.far_below}
        assert public == _PUBLIC[method]


def test_keys_are_judged_by_key_and_all_else_that_is_not_public_is_roots() -> None:
    """Nothing falls between."""
    for route in ROUTES:
        judged = {route.read, route.write} - {Right.NONE}
        assert judged <= ({Right.KEY} if route.path == b"/v2/keys" else {Right.ROOT}), route


_ROOTS: Final = [
    (route, method)
    for route in (*ROUTES, PROFILES)
    for method in (route.methods or _METHODS[:5])
    if route.right(method) is Right.ROOT
]


@pytest.mark.parametrize(
    ("route", "method"), _ROOTS, ids=lambda it: _name(it) if isinstance(it, Route) else it.decode()
)
async def test_what_is_roots_is_closed_for_everybody_else(settings: ApiSettings, route: Route, method: bytes) -> None:
    """Whatever the table has: nobody, somebody, a wrong password and a stranger; and root is let through."""
    running = await start(dataclasses.replace(settings, profiles=True))
    populate(running.backend)
    path = (route.path + (b"/some" if route.below else b"")).decode()
    async with await running.connect() as client:
        for login in (None, "r:p", "w:p", "root:wrong", "nobody:p", "root:"):
            answer = await ask(client, method.decode(), path, login, b"a=b" if method in {b"PUT", b"POST"} else b"")
            assert answer.status == 401, (login, answer)
        answer = await ask(client, method.decode(), path, "root:rpw")
        assert answer.status != 401, answer
    await running.server.stop()


@pytest.mark.parametrize("route", ROUTES, ids=_name)
async def test_table_says_what_is_served(client: Connection, route: Route) -> None:
    """A method that is not in it is 405 with its list; one that is in it is not, or is for a reason of its own."""
    path = route.path + (b"/some" if route.below else b"/some/more" if route.far_below else b"")
    assert find(path) is route
    for method in _METHODS:
        answer = await client.request(method.decode(), path.decode())
        is_served = not route.methods or method in route.methods
        allow = answer.header("Allow")
        assert answer.status != 404 or route.below, (method, answer)
        assert (answer.status == 405 and allow is not None) == (not is_served), (method, answer)
        if not is_served:
            assert allow == b",".join(route.methods).decode()


@pytest.mark.parametrize("route", ROUTES, ids=_name)
async def test_neighbour_of_a_route_is_no_route(client: Connection, route: Route) -> None:
    """Longer, shorter, in capitals, or with a slash at the end that nothing asks for."""
    slash = [] if route.below or any(other.path == route.path + b"/" for other in ROUTES) else [route.path + b"/"]
    for path in (route.path.rstrip(b"/") + b"x", route.path.rstrip(b"/")[:-1], route.path.upper(), *slash):
        if find(path) is None:
            assert (await client.request("GET", path.decode())).status == 404, path
        else:
            assert path.startswith(tuple(other.path + b"/" for other in ROUTES if other.below)), path
