"""A matrix on both servers: every answer equal, and none of ours open where etcd's is closed."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Final, final
from urllib.parse import unquote

from tests.conformance.auth_matrix.cells import (
    MEASURED,
    ROLES,
    ROLES_OF,
    TREE,
    Cell,
    Roles,
    preparation,
)
from tests.conformance.auth_matrix.servers import Doors, doors
from tests.conformance.comparison import comparable, difference, is_removal_of_a_neighbour, recoded, without_previous
from tests.conformance.scene import SILENCE_S
from tests.conformance.wire import Answer, Connection, NothingCameError, Request, keys_request

RESOWN_EVERY: Final = 40
"""Cells after which the tree is put back: writes of the matrix have changed it."""
_LOOK: Final = keys_request("GET", "/m/open/", query="quorum=true")
"""What a guest may read."""


@final
@dataclass(slots=True)
class Findings:
    """What a run has seen."""

    cells: int = 0
    closed: int = 0
    """Cells that both refuse."""
    differences: list[str] = field(default_factory=list)


class Matrix:
    """Two servers whose users and roles are the same."""

    def __init__(self, doors: Doors, *, auth: bool, roles: Roles = ROLES) -> None:
        """Make the users; turn auth on if so asked. Both servers are at the same index."""
        self._doors = doors
        servers = self._servers = doors.servers
        self._auth = auth
        self._roles = roles
        self._history = 0
        for request in preparation(roles):
            expected, actual = servers.ask(request)
            assert expected.status == actual.status < 300, request
        self._sow()
        if auth:
            assert [answer.status for answer in servers.ask(Request("PUT", b"/v2/auth/enable"))] == [200, 200]

    def _as_root(self, method: str, path: str, body: bytes | None = None) -> tuple[Answer, Answer]:
        """By his certificate, which costs no hash."""
        content_type = "application/x-www-form-urlencoded" if body is not None else None
        request = Request(method, path.encode(), body, content_type)
        one, other = self._doors.connections("root")
        return one.ask(request), other.ask(request)

    def _sow(self) -> None:
        """The tree as it should be; `history` is the index of its first write."""
        self._as_root("DELETE", "/v2/keys/m?recursive=true")
        for number, path in enumerate(TREE):
            answers = self._as_root("PUT", f"/v2/keys{path}", b"value=0")
            assert answers[0].status == answers[1].status == 201, answers
            assert answers[0].etcd_index == answers[1].etcd_index, "both stand at the same index"
            if number == 0:
                self._history = answers[0].etcd_index

    def run(self, cells: Iterable[Cell], seconds: float = math.inf) -> Findings:
        """Ask every cell of both, as many as time allows."""
        found = Findings()
        until = monotonic() + seconds
        for cell in cells:
            if monotonic() > until:
                break
            found.cells += 1
            expected, actual = self._ask(cell)
            found.closed += expected.status == actual.status == 401
            if words := compared(cell, expected, actual, self._roles if self._auth else None):
                found.differences.append(f"{cell}: {words}")
            if not self._auth and (cell.method, cell.target, expected.status) == ("PUT", "/v2/auth/enable", 200):
                # Everybody may, while it is off; the cells behind it are for auth that is off, too.
                assert [answer.status for answer in self._as_root("DELETE", "/v2/auth/enable")] == [200, 200]
            if found.cells % RESOWN_EVERY == 0:
                self._sow()
        return found

    def _ask(self, cell: Cell) -> tuple[Answer, Answer]:
        request = cell.request(self._history)
        if not cell.opens_a_watch:
            if cell.certificate is None:
                return self._servers.ask(request)
            one, other = self._doors.connections(cell.certificate)
            return one.ask(request), other.ask(request)
        one, other = self._for_a_watch(cell)
        with one, other:
            for connection in (one, other):
                connection.send(request)
            answer = _beginning(one, cell, SILENCE_S)
            # The other one has been silent for as long by now, if it is.
            return answer, _beginning(other, cell, SILENCE_S / 4)

    def _for_a_watch(self, cell: Cell) -> tuple[Connection, Connection]:
        if cell.certificate is not None:
            return self._doors.new_connections(cell.certificate)
        one, other = map(Connection, self._servers.next_urls_of_guests(_LOOK))
        return one, other


def _beginning(connection: Connection, cell: Cell, silence_s: float) -> Answer:
    """The answer to a watch as far as it comes at once: with its first event if one is in the history."""
    head = connection.receive_head()
    if head.status != 200:
        return connection.complete(head, "GET")
    return Answer(head, _first_event(connection, silence_s) if "$history" in cell.target else b"")


def _first_event(connection: Connection, silence_s: float) -> bytes:
    """What the history holds for a watch; nothing if no event in it is meant."""
    try:
        return connection.receive_chunk(silence_s) or b""
    except NothingCameError:
        return b""


def run_hand(cells: Sequence[Cell], roles: Roles, seconds: float, *, auth: bool) -> Findings:
    """Ask some of the cells of two servers of their own, in this process."""
    with doors() as opened:
        return Matrix(opened, auth=auth, roles=roles).run(cells, seconds)


def compared(cell: Cell, expected: Answer, actual: Answer, roles: Roles | None) -> str | None:
    """What differs, in words; None if nothing does that should not."""
    path = cell.target.partition("?")[0]
    if path in MEASURED and expected.status == 200:
        return None if actual.status == 200 else f"status {actual.status}, not 200"
    if "$history" in cell.target and expected.status == actual.status == 200 and expected.body:
        watched = unquote(path.removeprefix("/v2/keys")).encode()
        if is_removal_of_a_neighbour(watched, expected.body) and actual.body != expected.body:
            return (
                None  # the tree was put back before, and kvraft takes nobody else's event for his (docs/differences.md)
            )
    if roles is not None and is_blind(cell, roles):
        is_refresh = "refresh=true" in cell.target
        expected, actual = without_previous(expected, is_refresh=is_refresh), recoded(actual)
    one, other = comparable(expected, unsorted=True), comparable(actual, unsorted=True)
    if len(one.ttls) == len(other.ttls):
        one = replace(one, ttls=other.ttls)  # as many seconds are left as have gone by since the two were asked
    return difference(one, other)


def is_blind(cell: Cell, roles: Roles) -> bool:
    """Whether it is a write of a key that whoever asks may not read: kvraft tells him less (docs/differences.md)."""
    if not cell.is_key or cell.method not in {"PUT", "POST", "DELETE"}:
        return False
    user = cell.user
    if user == "root":
        return False
    key = unquote(cell.target.partition("?")[0].removeprefix("/v2/keys"))
    patterns = [pattern for role in ROLES_OF.get(user, [user]) for pattern in roles.get(role, ([], []))[0]]
    return not any(key.startswith(p[:-1]) if p.endswith("*") else key == p for p in patterns)
