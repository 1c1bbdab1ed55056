"""A part of the auth matrix beside a live etcd: `make torture` runs more of it."""

import random
from typing import Final
from urllib.parse import urlsplit

import pytest

from kvraft.api_v2.routes import ROUTES, Right, find
from tests.conformance.auth_matrix.cells import CERTIFICATES, LOGINS, ROLES, Cell, Roles, all_cells, drawn_roles
from tests.conformance.auth_matrix.run import Matrix, is_blind
from tests.conformance.auth_matrix.servers import doors

pytestmark = [pytest.mark.slow, pytest.mark.landing]

SEED: Final = 20261129
WITH_A_HASH: Final = 40
WITHOUT: Final = 200
CLOSED_SHARE: Final = 0.3


def drawn() -> list[Cell]:
    """Some cells in which etcd compares a password, which takes it 60 ms, and more in which it does not."""
    cells = list(all_cells())
    random.Random(SEED).shuffle(cells)
    with_a_hash = [cell for cell in cells if cell.costs_a_hash][:WITH_A_HASH]
    return with_a_hash + [cell for cell in cells if not cell.costs_a_hash][:WITHOUT]


@pytest.mark.parametrize(
    ("auth", "roles"),
    [(True, ROLES), (True, drawn_roles(random.Random(SEED))), (False, ROLES)],
    ids=["on", "by chance", "off"],
)
def test_everybody_gets_from_every_route_what_etcd_gives_him(*, auth: bool, roles: Roles) -> None:
    """Statuses, headers and bodies, but for what a write tells him who may not read."""
    with doors() as opened:
        found = Matrix(opened, auth=auth, roles=roles).run(drawn())
    assert not found.differences, "\n".join(found.differences)
    assert (found.closed > CLOSED_SHARE * found.cells) is auth, "the matrix has open and closed cells"


OWN: Final = {b"/v2/kvraft/status", b"/v2/kvraft/backup"}
"""Which etcd has not: `tests/api_v2/test_routes.py` asks for them as everybody."""


TURNS_AUTH_OFF: Final = (b"/v2/auth/enable", b"DELETE")
"""Root's would, for all cells behind it: the differential test with auth on has it."""


def test_matrix_has_every_route_of_etcds() -> None:
    """One that is added to the table is added to the matrix, too."""
    asked = {(find(urlsplit(cell.target).path.encode()), cell.method) for cell in all_cells()}
    lacking = {route.path for route in ROUTES if not any(route is found for found, _ in asked)}
    assert lacking == OWN
    judged = {(route, method) for route, method in asked if route is not None}
    for route in ROUTES:
        for method in (b"GET", b"PUT", b"POST", b"DELETE"):
            is_judged = method in route.methods and route.right(method) is not Right.NONE
            if is_judged and route.path not in OWN and (route.path, method) != TURNS_AUTH_OFF:
                assert any(route is found and method.decode() == how for found, how in judged), (route.path, method)


def test_matrix_has_everybody_in_every_kind_of_request() -> None:
    """Each cell is there once; some are of a writer who may not read."""
    cells = list(all_cells())
    assert len(cells) == len(set(cells))
    assert len(cells) > 400 * len(LOGINS)
    assert {cell.login for cell in cells if cell.certificate is None} == set(LOGINS)
    assert {cell.certificate for cell in cells} == {None, *CERTIFICATES}
    assert sum(cell.certificate is not None and bool(cell.login) for cell in cells) > 3000, "and a header beside it"
    assert any(is_blind(cell, ROLES) for cell in cells)
