"""Who may do what while auth is on, through both fronts, and what becomes of it when users and roles change."""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Callable

import bcrypt
import pytest
import pytest_asyncio

from kvraft.api_v2 import guard
from kvraft.api_v2.asker import VERIFIED_CERTIFICATE, Asker, asker_on, authorization_in, says_forwarded
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.guard import Guard, Standing, Unknown
from kvraft.api_v2.listening import bind
from kvraft.api_v2.server import serve_metrics
from kvraft.api_v2.settings import ApiSettings, AuthSettings
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
from kvraft.keyspace.commands import Authorized, Command, Set
from kvraft.keyspace.errors import EtcdError
from kvraft.records import Written
from kvraft.security import logins, passwords
from kvraft.security.connection import CERTIFICATE
from kvraft.security.logins import GUEST, Login
from kvraft.security.passwords import Passwords
from kvraft.testing.raw_http import Answer, Connection
from tests.api_v2.conftest import Served, start
from tests.api_v2.memory_backend import MemoryBackend

DENIED = (401, b'{"errorCode":110,"message":"The request requires user authentication","cause":"Insufficient credentials","index":0}\n')  # fmt: skip  # noqa: E501 -- as it is sent
NO_ROOT = (401, b'{"message":"Insufficient credentials"}')
FORM = ("Content-Type", "application/x-www-form-urlencoded")


def hashed(password: str) -> bytes:
    """A hash that is cheap to compare."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4))


def basic(login: str) -> tuple[str, str]:
    """The header that says who asks, `name:password`."""
    return "Authorization", "Basic " + base64.b64encode(login.encode()).decode()


def change(backend: MemoryBackend, *commands: AccountCommand) -> None:
    """What others have changed."""
    for command in commands:
        backend.apply(Authorized(backend.keyspace.accounts.revision, command))


def revoke(*patterns: str) -> PutRole:
    """Take reading away from the reader."""
    return PutRole("reads", revoke=Permissions(patterns))


CHANGES = (PutUser("r", hashed("other")), DeleteUser("r"), PutUser("r", revoke=("reads",)), DeleteRole("reads"))
"""Each of which takes from r what he could read."""


def populate(backend: MemoryBackend) -> None:
    """Auth is on; root, r (reads below /a and /b itself), w (writes there), nobody for the guest."""
    change(
        backend,
        PutUser("root", hashed("rpw")),
        PutUser("r", hashed("p"), ("reads", "gone")),
        PutUser("w", hashed("p"), ("writes",)),
        PutUser("rw", hashed("p"), ("reads", "writes")),
        PutRole("reads", Permissions(("/a/*", "/b"))),
        PutRole("writes", Permissions(None, ("/a/*", "/b"))),
        PutRole("guest", Permissions(("/open",))),
    )
    for path in (b"/a/x", b"/ab", b"/b", b"/open"):
        backend.apply(Set(path, b"old"))
    change(backend, EnableAuth())


@pytest_asyncio.fixture
async def guarded(served: Served) -> Served:
    """A served backend that is populated."""
    populate(served.backend)
    return served


@pytest_asyncio.fixture
async def client(guarded: Served) -> AsyncIterator[Connection]:
    """One connection to it."""
    async with await guarded.connect() as connection:
        yield connection


async def ask(client: Connection, method: str, target: str, login: str | None = None, body: bytes = b"") -> Answer:
    """Ask as somebody."""
    headers = [] if login is None else [basic(login)]
    if body:
        headers.append(FORM)
    return await client.request(method, target, headers=tuple(headers), body=body)


def outcome(answer: Answer) -> tuple[int, bytes]:
    """Status and body."""
    return answer.status, answer.body


@pytest.mark.parametrize(
    ("login", "readable"),
    [
        (None, {"/open"}),
        ("root:rpw", {"/a/x", "/ab", "/b", "/open"}),
        ("root:wrong", set()),
        ("nobody:p", set()),
        ("r:p", {"/a/x", "/b"}),
        ("w:p", set()),
        ("rw:p", {"/a/x", "/b"}),
    ],
)
async def test_everybody_reads_what_his_roles_allow(client: Connection, login: str | None, readable: set[str]) -> None:
    """A wrong password is nobody's, not the guest's; a role that is gone allows nothing; /ab is not below /a."""
    for key in ("/a/x", "/ab", "/b", "/open"):
        for method, target in (("GET", key), ("HEAD", key), ("GET", f"{key}?quorum=true")):
            answer = await ask(client, method, f"/v2/keys{target}", login)
            assert (answer.status == 200) is (key in readable), (method, target)
            if key not in readable and method == "GET":
                assert outcome(answer) == DENIED
                assert answer.header("X-Etcd-Index") == "0"


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PUT", "/a/y", b"value=1"),
        ("POST", "/a/", b"value=1"),
        ("DELETE", "/a/x", b""),
        ("PUT", "/a/x?prevValue=old", b"value=1"),
        ("DELETE", "/a/x?prevValue=old", b""),
        ("PUT", "/a/x?prevExist=true&ttl=100&refresh=true", b""),
        ("PUT", "/a/d?dir=true", b""),
    ],
)
async def test_every_kind_of_write_needs_the_right_to_write(
    guarded: Served, client: Connection, method: str, target: str, body: bytes
) -> None:
    """Reading is not enough, and nothing is changed by who is refused."""
    index = guarded.backend.keyspace.etcd_index
    for login in (None, "r:p", "w:wrong"):
        assert outcome(await ask(client, method, f"/v2/keys{target}", login, body)) == DENIED
    assert guarded.backend.keyspace.etcd_index == index
    assert (await ask(client, method, f"/v2/keys{target}", "w:p", body)).status in {200, 201}


@pytest.mark.parametrize("query", ["recursive=true", "recursive=true&sorted=true", "recursive=true&quorum=true"])
async def test_recursion_needs_a_right_to_all_below(client: Connection, query: str) -> None:
    """`/b` alone is not enough for what is below it, nor `/a/*` for /a, and the slash counts; also in a write."""
    for target, status in (("/b", 401), ("/a", 401), ("/a/", 200), ("/a/x", 200)):
        assert (await ask(client, "GET", f"/v2/keys{target}?{query}", "r:p")).status == status, target
    for target, status in (("/b", 401), ("/a", 401), ("/a/x", 200)):
        answer = await ask(client, "DELETE", f"/v2/keys{target}?recursive=true", "w:p")
        assert answer.status == status, target
    assert (await ask(client, "PUT", "/v2/keys/b?recursive=true", "w:p", b"value=1")).status == 401


async def test_who_may_not_read_learns_nothing_by_writing(guarded: Served, client: Connection) -> None:
    """No value or time in prevNode, nor in a failed compare, nor the one that a refresh keeps; statuses are as ever."""
    seen = [
        await ask(client, "PUT", "/v2/keys/b?refresh=true&ttl=100", "w:p", b""),
        await ask(client, "PUT", "/v2/keys/b?refresh=true&ttl=100&prevExist=true", "w:p", b""),
        await ask(client, "PUT", "/v2/keys/b?refresh=true&ttl=100&prevValue=old", "w:p", b""),
        await ask(client, "PUT", "/v2/keys/b", "w:p", b"value=1"),
        await ask(client, "PUT", "/v2/keys/b?prevValue=wrong", "w:p", b"value=2"),
        await ask(client, "PUT", "/v2/keys/b?prevIndex=7", "w:p", b"value=2"),
        await ask(client, "PUT", "/v2/keys/b?prevExist=true", "w:p", b"value=2"),
        await ask(client, "DELETE", "/v2/keys/b?prevValue=wrong", "w:p"),
        await ask(client, "DELETE", "/v2/keys/b", "w:p"),
    ]
    assert [answer.status for answer in seen] == [200, 200, 200, 200, 412, 412, 200, 412, 200]
    assert all(b"old" not in answer.body for answer in seen)
    shown = [answer.json().get("prevNode") for answer in seen if answer.status == 200]
    assert shown == [{"key": "/b"}] * len(shown), "its key stays: etcdctl panics at an answer without prevNode"
    assert all(b"cause" not in answer.body for answer in seen)
    guarded.backend.apply(Authorized(guarded.backend.keyspace.accounts.revision, Set(b"/b", b"old")))
    seen_by_reader = await ask(client, "PUT", "/v2/keys/b", "rw:p", b"value=1")
    assert b'"prevNode":{"key":"/b","value":"old"' in seen_by_reader.body
    compared = await ask(client, "PUT", "/v2/keys/b?prevValue=wrong", "rw:p", b"value=1")
    assert b"[wrong != 1]" in compared.body


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v2/auth/users"),
        ("GET", "/v2/auth/users/r"),
        ("PUT", "/v2/auth/users/r"),
        ("DELETE", "/v2/auth/users/r"),
        ("GET", "/v2/auth/roles"),
        ("GET", "/v2/auth/roles/reads"),
        ("PUT", "/v2/auth/roles/reads"),
        ("DELETE", "/v2/auth/roles/reads"),
        ("PUT", "/v2/auth/enable"),
        ("DELETE", "/v2/auth/enable"),
        ("POST", "/v2/members"),
        ("PUT", "/v2/members/1"),
        ("DELETE", "/v2/members/1"),
    ],
)
async def test_what_is_roots_is_nobody_elses(guarded: Served, client: Connection, method: str, target: str) -> None:
    """Also without a password, where there is no guest."""
    index = guarded.backend.keyspace.etcd_index
    for login in (None, "root:wrong", "nobody:rpw", "rw:p"):
        assert outcome(await ask(client, method, target, login)) == NO_ROOT
    assert guarded.backend.keyspace.etcd_index == index
    assert (await ask(client, method, target, "root:rpw")).status != 401


async def test_a_password_is_compared_once(client: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was right is remembered, over connections too; whoever was wrong is compared again."""
    compared = []
    is_right = passwords._is_right

    def counted(password: bytes, password_hash: bytes | None, cost: int) -> bool:
        compared.append(password)
        return is_right(password, password_hash, 4)

    monkeypatch.setattr(passwords, "_is_right", counted)
    for _ in range(3):
        assert (await ask(client, "GET", "/v2/keys/b", "r:p")).status == 200
    assert compared == [b"p"]
    for _ in range(2):
        assert (await ask(client, "GET", "/v2/keys/b", "r:wrong")).status == 401
    assert compared == [b"p", b"wrong", b"wrong"]


async def test_header_lines_that_are_always_new_make_nobody_forgotten(
    client: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a client are that numbers its requests: its own password, and everybody else's, costs no hash."""
    compared = []
    is_right = passwords._is_right

    def counted(password: bytes, password_hash: bytes | None, cost: int) -> bool:
        compared.append(password)
        return is_right(password, password_hash, 4)

    monkeypatch.setattr(passwords, "_is_right", counted)
    monkeypatch.setattr(logins, "REMEMBERED_MAX", 4)
    assert (await ask(client, "GET", "/v2/keys/b", "r:p")).status == 200
    for number in range(12):
        headers = (basic("rw:p"), ("X-Request-Id", str(number)))
        assert (await client.request("GET", "/v2/keys/b", headers=headers)).status == 200
    assert (await ask(client, "GET", "/v2/keys/b", "r:p")).status == 200
    assert len(compared) == 2


async def test_many_connections_of_one_client_cost_one_hash(guarded: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """They all wait for the same comparison."""
    compared = []
    is_right = passwords._is_right

    def counted(password: bytes, password_hash: bytes | None, cost: int) -> bool:
        compared.append(password)
        return is_right(password, password_hash, 4)

    monkeypatch.setattr(passwords, "_is_right", counted)
    clients = [await guarded.connect() for _ in range(20)]
    answers = await asyncio.gather(*(ask(client, "GET", "/v2/keys/b", "rw:p") for client in clients))
    for each in clients:
        await each.close()
    assert {answer.status for answer in answers} == {200}
    assert len(compared) < len(clients) / 2, "those that came while one was compared waited for it"


async def test_many_first_logins_at_once_are_all_answered(guarded: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as wrk opens, each waiting for one of two hashes.

    One of the answers cannot be made: the others come all the same.
    """
    is_right = passwords._is_right
    monkeypatch.setattr(passwords, "_is_right", lambda password, kept, _cost: is_right(password, kept, 4))
    standing_of = Guard.standing_of
    broken: list[Login] = []

    def breaks_once(self: Guard, login: Login) -> Standing:
        if not broken:
            broken.append(login)
            raise ArithmeticError
        return standing_of(self, login)

    monkeypatch.setattr(Guard, "standing_of", breaks_once)
    clients = [await guarded.connect() for _ in range(64)]
    asking = [
        asyncio.ensure_future(
            ask(client, "PUT", f"/v2/keys/a/{number}", f"{'w' if number % 2 else 'rw'}:p", b"value=1")
        )
        for number, client in enumerate(clients)
    ]
    answers = await asyncio.gather(*asking, return_exceptions=True)
    for each in clients:
        await each.close()
    statuses = [answer.status if isinstance(answer, Answer) else answer for answer in answers]
    assert statuses.count(201) == 63, statuses
    assert len(broken) == 1


async def test_a_comparison_that_fails_is_answered_and_the_next_one_is_made(
    client: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has looked at the password; the same header is compared anew."""

    def broken(password: bytes, password_hash: bytes | None, cost: int) -> bool:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(passwords, "_is_right", broken)
        for _ in range(2):
            assert (await ask(client, "GET", "/v2/keys/b", "r:p")).status == 500
    assert (await ask(client, "GET", "/v2/keys/b", "r:p")).status == 200


@pytest.mark.parametrize(
    "changed",
    [
        PutUser("r", hashed("other")),
        DeleteUser("r"),
        PutUser("r", revoke=("reads",)),
        DeleteRole("reads"),
        revoke("/b"),
    ],
    ids=["password", "user", "role", "deleted role", "pattern"],
)
async def test_a_change_counts_from_the_next_request(
    guarded: Served, client: Connection, changed: AccountCommand
) -> None:
    """Whatever was remembered: of the first request the login, of the second what he may do."""
    for _ in range(3):
        assert (await ask(client, "GET", "/v2/keys/b", "r:p")).status == 200
    change(guarded.backend, changed)
    assert outcome(await ask(client, "GET", "/v2/keys/b", "r:p")) == DENIED


async def test_rights_that_are_given_count_from_the_next_request(guarded: Served, client: Connection) -> None:
    """Who was refused, and known, is not refused for it."""
    for _ in range(3):
        assert outcome(await ask(client, "GET", "/v2/keys/ab", "r:p")) == DENIED
    change(guarded.backend, PutRole("reads", grant=Permissions(("/ab",))))
    for _ in range(3):
        assert (await ask(client, "GET", "/v2/keys/ab", "r:p")).status == 200
        assert outcome(await ask(client, "PUT", "/v2/keys/ab", "r:p", b"value=1")) == DENIED


async def test_who_is_known_by_his_lines_is_not_more_than_there_is_room_for(
    client: Connection, settings: ApiSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Header lines that are new each time, each of them twice: nobody is forgotten for good, nor let in for it."""
    monkeypatch.setattr(guard, "STANDINGS_MAX", 4)
    kept: list[int] = []
    standing = Guard.standing

    def noted(self: Guard, exchange: Exchange) -> Standing | None:
        kept.append(len(self._standings))
        return standing(self, exchange)

    monkeypatch.setattr(Guard, "standing", noted)
    for number in range(12):
        headers = (basic("r:p"), ("X-Request-Id", str(number)))
        for _ in range(3):
            assert (await client.request("GET", "/v2/keys/b", headers=headers)).status == 200
            assert outcome(await client.request("GET", "/v2/keys/ab", headers=headers)) == DENIED
    assert max(kept) == (4 if settings.fast_front else 0), "the other front knows nobody by his lines"


async def test_a_password_that_changes_while_it_is_compared_counts_no_more(
    guarded: Served, client: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found right is not what stands there now."""
    loop = asyncio.get_running_loop()
    is_right = passwords._is_right

    def meanwhile(password: bytes, password_hash: bytes | None, cost: int) -> bool:
        right = is_right(password, password_hash, 4)
        if right:
            asyncio.run_coroutine_threadsafe(changes(), loop).result(10)
        return right

    async def changes() -> None:
        change(guarded.backend, PutUser("r", hashed("other")))

    monkeypatch.setattr(passwords, "_is_right", meanwhile)
    assert outcome(await ask(client, "GET", "/v2/keys/b", "r:p")) == DENIED


class Held:
    """Stands between the API and the member: commands wait until they are let go."""

    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend
        self._submit = backend.submit
        self.commands: list[tuple[Command, Callable[[Written | EtcdError], None]]] = []
        self.came = asyncio.Event()

    def submit(self, command: Command, done: Callable[[Written | EtcdError], None]) -> Callable[[], None]:
        self.commands.append((command, done))
        self.came.set()
        return lambda: None

    def release(self) -> None:
        """Apply what waits, and hold nothing more."""
        self._backend.submit = self._submit  # type: ignore[method-assign] # put back
        for command, done in self.commands:
            self._submit(command, done)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (PutRole("writes", revoke=Permissions(None, ("/a/*", "/b"))), 401),
        (PutUser("w", hashed("other")), 401),
        (PutRole("other"), 201),
        (DisableAuth(), 201),
    ],
    ids=["revoked", "password", "something else", "auth off"],
)
async def test_a_write_under_way_is_judged_again(
    guarded: Served, client: Connection, changed: AccountCommand, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was allowed when it came; what counts is where it is applied."""
    held = Held(guarded.backend)
    monkeypatch.setattr(guarded.backend, "submit", held.submit)
    asking = asyncio.ensure_future(ask(client, "PUT", "/v2/keys/a/new", "w:p", b"value=1"))
    await held.came.wait()
    change(guarded.backend, changed)
    held.release()
    assert (await asking).status == expected
    found = guarded.backend.keyspace.get(b"/a/new", recursive=False, in_order=False, clock_ms=0)
    assert isinstance(found, EtcdError) is (expected == 401)


async def test_a_write_from_before_auth_is_judged_when_auth_is_on(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that had not heard of auth took it without a question."""
    held = Held(served.backend)
    async with await served.connect() as client:
        monkeypatch.setattr(served.backend, "submit", held.submit)
        asking = asyncio.ensure_future(ask(client, "PUT", "/v2/keys/a/new", None, b"value=1"))
        await held.came.wait()
        populate(served.backend)
        held.release()
        assert outcome(await asking) == DENIED


async def test_a_change_of_users_under_way_is_judged_again(
    guarded: Served, client: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's own password has changed meanwhile: whoever asked is not root any more."""
    held = Held(guarded.backend)
    monkeypatch.setattr(guarded.backend, "submit", held.submit)
    asking = asyncio.ensure_future(ask(client, "DELETE", "/v2/auth/users/r", "root:rpw"))
    await held.came.wait()
    change(guarded.backend, PutUser("root", hashed("other")))
    held.release()
    assert outcome(await asking) == NO_ROOT
    assert "r" in guarded.backend.keyspace.accounts.users


@pytest.fixture
def barriers(served: Served, monkeypatch: pytest.MonkeyPatch) -> "Barriers":
    """Of the served backend."""
    return Barriers(served.backend, monkeypatch)


class Barriers:
    """Reads of a quorum that wait until they are let go."""

    def __init__(self, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        self._waiting: list[Callable[[EtcdError | None], None]] = []
        self._patched = monkeypatch
        self._backend, self._read_barrier = backend, backend.read_barrier
        self.came = asyncio.Event()
        monkeypatch.setattr(backend, "read_barrier", self._hold)

    def _hold(self, done: Callable[[EtcdError | None], None]) -> Callable[[], None]:
        self._waiting.append(done)
        self.came.set()
        return lambda: None

    def release(self) -> None:
        """A quorum has confirmed what waits; nothing more is held."""
        self._patched.setattr(self._backend, "read_barrier", self._read_barrier)
        for done in self._waiting:
            done(None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [([revoke("/b")], 401), ([DisableAuth(), revoke("/b")], 200), ([PutRole("other")], 200)],
    ids=["revoked", "revoked and off", "something else"],
)
async def test_a_quorum_read_under_way_is_judged_again(
    guarded: Served, barriers: Barriers, changes: list[AccountCommand], expected: int
) -> None:
    """What it is answered with is newer than what it was judged by."""
    async with await guarded.connect() as client:
        asking = asyncio.ensure_future(ask(client, "GET", "/v2/keys/b?quorum=true", "r:p"))
        await barriers.came.wait()
        change(guarded.backend, *changes)
        barriers.release()
        assert (await asking).status == expected


@pytest.mark.parametrize("target", ["/v2/keys/b?quorum=true", "/v2/keys/b?wait=true&waitIndex=100000"])
@pytest.mark.parametrize("changed", [PutUser("root", hashed("rpw")), PutRole("reads", Permissions(("/a/*",)))])
async def test_users_that_are_made_while_auth_is_off_shut_nobody_out(
    served: Served, barriers: Barriers, target: str, changed: AccountCommand
) -> None:
    """There is no role of the guest yet, and nobody asks for one."""
    served.backend.apply(Set(b"/b", b"old"))
    async with await served.connect() as client:
        asking = asyncio.ensure_future(ask(client, "GET", target))
        await barriers.came.wait()
        change(served.backend, changed)
        barriers.release()
        assert (await asking).status == (400 if "wait" in target else 200)


@pytest.mark.parametrize("is_behind_barrier", [False, True])
@pytest.mark.pure
async def test_a_watch_that_ends_unopened_is_judged_again(
    guarded: Served, monkeypatch: pytest.MonkeyPatch, *, is_behind_barrier: bool
) -> None:
    """Whoever stops sending has his answer by the accounts of that moment, once, also while he is judged again."""
    go_on, came, is_last = threading.Event(), asyncio.Event(), asyncio.Event()
    barriers: list[Callable[[EtcdError | None], None]] = []
    last_request, is_right = Exchange.last_request, passwords._is_right

    def hold(done: Callable[[EtcdError | None], None]) -> Callable[[], None]:
        barriers.append(done)
        came.set()
        return lambda: None

    def noted(exchange: Exchange) -> None:
        last_request(exchange)
        is_last.set()

    def held(password: bytes, password_hash: bytes | None, cost: int) -> bool:
        assert go_on.wait(20)
        return is_right(password, password_hash, cost)

    monkeypatch.setattr(guarded.backend, "read_barrier", hold)
    monkeypatch.setattr(Exchange, "last_request", noted)
    async with await guarded.connect() as client:
        await client.send("GET", "/v2/keys/b?wait=true&waitIndex=99999", headers=(basic("r:p"),))
        await came.wait()
        monkeypatch.setattr(passwords, "_is_right", held)
        change(guarded.backend, PutUser("r", hashed("other")))
        if is_behind_barrier:
            barriers[0](None)
        client.writer.write_eof()
        await is_last.wait()
        go_on.set()
        assert outcome(await client.read_answer()) == DENIED
        assert await client.reader.read() == b""


async def watch(guarded: Served, target: str, login: str | None) -> Connection:
    """A connection on which a watch is open."""
    connection = await guarded.connect()
    headers = () if login is None else (basic(login),)
    head = await connection.stream(f"/v2/keys{target}", headers=headers)
    assert head.status == 200, target
    return connection


async def is_over(connection: Connection) -> bool:
    """Whether the server has closed it without an event."""
    try:
        return not await connection.read_chunk(timeout_s=5)
    except (ConnectionError, asyncio.IncompleteReadError):
        return True


@pytest.mark.parametrize(
    "changed",
    [
        PutUser("r", hashed("other")),
        DeleteUser("r"),
        PutUser("r", revoke=("reads",)),
        DeleteRole("reads"),
        revoke("/a/*"),
    ],
    ids=["password", "user", "role", "deleted role", "pattern"],
)
@pytest.mark.parametrize("query", ["wait=true", "wait=true&recursive=true", "wait=true&recursive=true&stream=true"])
async def test_a_watch_ends_with_the_right_to_it(guarded: Served, changed: AccountCommand, query: str) -> None:
    """Before an event behind the change; whoever keeps his right keeps his watch."""
    ended = await watch(guarded, f"/a/x?{query}", "r:p")
    kept = await watch(guarded, f"/a/x?{query}", "root:rpw")
    change(guarded.backend, changed)
    guarded.backend.apply(Authorized(guarded.backend.keyspace.accounts.revision, Set(b"/a/x", b"secret")))
    assert await is_over(ended)
    assert b"secret" in await kept.read_chunk()
    for connection in (ended, kept):
        await connection.close()


async def test_urls_for_metrics_take_no_watch_from_its_judge(guarded: Served) -> None:
    """Both servers of one member are told of a change."""
    metrics = await serve_metrics(guarded.backend, [bind("127.0.0.1", 0)], ApiSettings(), guarded.metrics)
    ended = await watch(guarded, "/b?wait=true", "r:p")
    change(guarded.backend, revoke("/b"))
    assert await is_over(ended)
    await ended.close()
    await metrics.stop()


async def test_a_watch_from_before_auth_is_the_guests(served: Served) -> None:
    """Nobody has asked who opened it."""
    populate(served.backend)
    change(served.backend, DisableAuth())
    ended = await watch(served, "/a?wait=true&recursive=true", None)
    kept = await watch(served, "/open?wait=true", None)
    change(served.backend, EnableAuth())
    for path in (b"/a/x", b"/open"):
        served.backend.apply(Authorized(served.backend.keyspace.accounts.revision, Set(path, b"new")))
    assert await is_over(ended)
    assert b'"/open"' in await kept.read_chunk()
    for connection in (ended, kept):
        await connection.close()


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/a/x?wait=true", 200),
        ("/a/?wait=true&recursive=true", 200),
        ("/a?wait=true&recursive=true", 401),
        ("/a?wait=true", 401),
        ("/b?wait=true&recursive=true", 401),
        ("/ab?wait=true&recursive=true", 401),
        ("/ab?wait=true&waitIndex=1", 401),
        ("/?wait=true&recursive=true&stream=true", 401),
        ("/ab?wait=true&waitIndex=100000", 401),
        ("/ab?wait=true&quorum=true", 401),
    ],
)
async def test_a_watch_needs_the_right_to_read(guarded: Served, target: str, status: int) -> None:
    """Of what is below too if it is recursive; also where it begins in the history or far in the future."""
    async with await guarded.connect() as connection:
        assert (await connection.stream(f"/v2/keys{target}", headers=(basic("r:p"),))).status == status


async def test_too_many_logins_at_once_are_told_so(
    guarded: Served, client: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has looked at the password, so it is no 401."""
    monkeypatch.setattr(passwords, "WAITING_MAX", 0)
    answer = await ask(client, "GET", "/v2/keys/b", "r:p")
    assert (answer.status, answer.json()["errorCode"]) == (500, 300)
    assert (await ask(client, "GET", "/v2/auth/users", "root:rpw")).status == 500
    assert (await ask(client, "GET", "/v2/keys/open")).status == 200


@pytest.mark.parametrize("fast_front", [True, False])
async def test_guests_are_denied_if_the_operator_says_so(*, fast_front: bool) -> None:
    """From the moment auth is on, whatever their role allows."""
    served = await start(ApiSettings(fast_front=fast_front, auth=AuthSettings(denies_guests=True)))
    async with await served.connect() as client:
        assert (await ask(client, "PUT", "/v2/keys/open", None, b"value=1")).status == 201
        populate(served.backend)
        assert outcome(await ask(client, "GET", "/v2/keys/open")) == DENIED
        assert (await ask(client, "GET", "/v2/keys/b", "r:p")).status == 200
    await served.server.stop()


async def test_failures_are_bounded_if_the_operator_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The right password is not looked at either; whoever is remembered goes on."""
    served = await start(ApiSettings(auth=AuthSettings(failures_max=2)))
    populate(served.backend)
    async with await served.connect() as client:
        assert (await ask(client, "GET", "/v2/keys/b", "r:p")).status == 200
        for _ in range(2):
            assert (await ask(client, "GET", "/v2/keys/b", "rw:wrong")).status == 401
        assert outcome(await ask(client, "GET", "/v2/keys/b", "rw:p")) == DENIED
        assert (await ask(client, "GET", "/v2/keys/b", "r:p")).status == 200
    await served.server.stop()


async def test_guesses_at_once_are_no_more_than_guesses_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is being compared counts as if it were wrong, so that a bound of two is two; nobody hangs."""
    compared = []

    def wrong(password: bytes, _hash: bytes | None, _cost: int) -> bool:
        compared.append(password)
        return False

    monkeypatch.setattr(passwords, "_is_right", wrong)
    served = await start(ApiSettings(auth=AuthSettings(failures_max=2)))
    populate(served.backend)
    clients = [await served.connect() for _ in range(12)]
    guesses = (ask(client, "GET", "/v2/keys/b", f"r:{number}") for number, client in enumerate(clients))
    answers = await asyncio.gather(*guesses)
    for each in clients:
        await each.close()
    assert len(compared) == 2
    assert {answer.status for answer in answers} <= {401, 500}
    await served.server.stop()


def guard_of(settings: AuthSettings) -> Guard:
    """A guard over a populated backend, where no password is compared."""
    backend = MemoryBackend()
    populate(backend)
    return Guard(backend, settings, Passwords())


def identified(guard: Guard, asker: Asker) -> Login | Unknown:
    """Who asks, if that is known at once."""
    found: list[Login | Unknown] = []
    guard.ask_who(asker, found.append)
    return found[0]


def test_the_name_of_a_certificate_is_a_user_where_the_operator_says_so() -> None:
    """Only then; a name that no user has is the guest's, and an empty one nobody's."""
    guard = guard_of(AuthSettings(client_cert_auth=True))
    assert identified(guard, Asker(None, "::1", "r")) == Login("r")
    assert identified(guard, Asker(b"", "::1", "r")) == Login("r")
    assert identified(guard, Asker(None, "::1", "stranger")) is GUEST
    assert identified(guard, Asker(None, "::1", "")) is GUEST
    assert identified(guard_of(AuthSettings()), Asker(None, "::1", "r")) is GUEST
    assert guard.may(Login("r"), b"/b", write=False, recursive=False)
    assert guard.is_root(Login("root"))


def test_a_header_beats_a_certificate_also_when_it_is_wrong() -> None:
    """As in etcd: who says who he is must prove it."""
    guard = guard_of(AuthSettings(client_cert_auth=True))
    assert identified(guard, Asker(b"Bearer x", "::1", "root")) is Unknown.WRONG


class Sender:
    """A connection whose requests all have the same header lines."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def token(self) -> bytes:
        return b"the same lines"

    def asker(self) -> Asker:
        return self._asker


def test_equal_lines_from_another_connection_are_not_another_ones_certificate() -> None:
    """An empty header says nothing: who asks is what each connection's certificate says."""
    guard = guard_of(AuthSettings(client_cert_auth=True))
    found: list[Login | Unknown] = []
    for common_name in ("root", "r", ""):
        guard.identify(Sender(Asker(b"", "::1", common_name)), found.append)  # type: ignore[arg-type] # what is asked of an exchange
    assert found == [Login("root"), Login("r"), GUEST]


class Transport:
    """A connection over TLS whose client has shown a certificate."""

    def __init__(self, common_name: str | None) -> None:
        self._certificate = None if common_name is None else Shown(common_name)

    def get_extra_info(self, name: str) -> object:
        return {"peername": ("10.0.0.7", 4711), "verified_certificate": self._certificate}[name]


class Shown:
    """Its certificate."""

    def __init__(self, common_name: str) -> None:
        self.common_name = common_name


def test_the_certificate_is_asked_for_by_the_name_that_connections_have_for_it() -> None:
    """The rooms do not know each other's constant."""
    assert VERIFIED_CERTIFICATE == CERTIFICATE


def test_a_certificate_that_a_proxy_has_shown_is_nobodys() -> None:
    """CVE-2018-16886: it says who the proxy is, and not who asks."""
    assert asker_on(Transport("root"), None, forwarded=False) == Asker(None, "10.0.0.7", "root")
    assert asker_on(Transport("root"), b"x", forwarded=True) == Asker(b"x", "10.0.0.7", "")
    assert asker_on(Transport(None), None, forwarded=False) == Asker(None, "10.0.0.7", "")


@pytest.mark.parametrize(
    ("name", "is_a_proxys"),
    [
        *(
            (name, True)
            for name in (b"Via", b"Forwarded", b"X-Forwarded-For", b"x-forwarded-client-cert", b"X-Real-IP")
        ),
        *((name, True) for name in (b"X-SSL-Client-CN", b"X-Client-Cert", b"X-Original-URI", b"X-Envoy-Peer")),
        *((name, False) for name in (b"Host", b"X-Request-Id", b"Viable", b"Authorization")),
    ],
)
def test_what_only_proxies_send_is_known(name: bytes, is_a_proxys: bool) -> None:
    """Of the proxies that tell who asked they tell it in very different ways, and by one header each."""
    assert says_forwarded([b"Host", name]) is is_a_proxys


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (b"Authorization: Basic x\r\nHost: h\r\n", b"Basic x"),
        (b"Host: h\r\nAUTHORIZATION:\tBasic  x \r\n", b"Basic  x"),
        (b"Host: h\r\nX-Authorization: Basic x\r\n", None),
        (b"Host: h\r\nA: \r\nauthorization:\r\n", b""),
        (b"Host: authorization: x\r\n", None),
    ],
)
def test_the_header_is_found_among_the_others(block: bytes, found: bytes | None) -> None:
    """By its whole name, at the beginning of a line, without the blanks around what it says."""
    assert authorization_in(block) == found
