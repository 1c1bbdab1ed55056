"""Finding a peer: names that hang or move, links that one side dials, attempts that are cut, loops that must live."""

import asyncio
import contextlib
import dataclasses
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator

import pytest

from kvraft.raft.messages import Heartbeat
from kvraft.testing import ports
from kvraft.transport.connection import Mailbox
from kvraft.transport.dialler import Dialler
from kvraft.transport.handshake import Greeting, Lane
from kvraft.transport.links import Links
from kvraft.transport.names import Address, Found, Names, Target
from kvraft.transport.session import Session
from kvraft.transport.settings import TransportSettings
from tests.transport import support

PATIENT = dataclasses.replace(support.QUICK, connect_timeout_ms=60_000)


class Directory:
    """A name service for tests: names lead to ports of this machine, and may hang."""

    def __init__(self, **ports_of: int) -> None:
        self.ports_of = ports_of
        self.looked_up: list[str] = []
        self._answers = threading.Event()
        self._answers.set()

    def look_up(self, host: str, _port: int) -> Found:
        self.looked_up.append(host)
        port = self.ports_of.get(host)
        if port is None:
            self._answers.wait()
            port = self.ports_of[host]
        return [Address(socket.AF_INET, ("127.0.0.1", port))]

    def hang(self) -> None:
        """From now on names that are not in the directory are not found."""
        self._answers.clear()

    def answer(self) -> None:
        """Now they are."""
        self._answers.set()


@contextlib.asynccontextmanager
async def _two(directory: Directory, settings: TransportSettings = support.QUICK) -> AsyncIterator[support.Peer]:
    """Member 2 under no name, and member 1, which knows it as `two` and cannot be dialled."""
    reservation = ports.reserve(3)
    first, second, nobody = reservation.ports
    directory.ports_of.setdefault("two", second)
    dialled = support.make_peer(2, {1: nobody, 2: second})
    dialling = support.make_peer(1, {1: first, 2: second}, settings, names=Names(directory.look_up))
    dialling.transport.set_peers({2: ("http://two:2380",)})
    try:
        async with support.running(dialled), support.running(dialling):
            yield dialling
    finally:
        directory.answer()
        reservation.release()


async def test_name_whose_lookup_hangs_holds_up_no_other_peer() -> None:
    """A dead name server knows nothing of one peer; the other is there at once, and stop() does not wait."""
    directory = Directory()
    directory.hang()
    async with _two(directory) as dialling:
        dialling.transport.set_peers({2: ("http://two:2380",), 3: ("http://three:2380",)})
        await dialling.events.until(lambda events: events.connected == {2})
        directory.ports_of["three"] = 1


async def test_last_address_that_worked_is_dialled_while_the_lookup_hangs() -> None:
    """A restarted peer is found again though the name server died meanwhile."""
    directory = Directory()
    async with _two(directory, PATIENT) as dialling:
        await dialling.events.until(lambda events: events.connected == {2})
        known = directory.ports_of.pop("two")
        directory.hang()
        dialling.transport._links.end_all("the test cuts it")
        await dialling.events.until(lambda events: events.disconnects == 1 and events.connected == {2})
        directory.ports_of["two"] = known


async def test_peer_whose_name_moves_is_found_at_its_new_address() -> None:
    """Every dial looks it up anew, and what it finds goes before what worked."""
    directory = Directory()
    reservation = ports.reserve(2)
    async with _two(directory) as dialling:
        await dialling.events.until(lambda events: events.connected == {2})
        moved = support.make_peer(2, {1: reservation.ports[0], 2: reservation.ports[1]})
        async with support.running(moved):
            directory.ports_of["two"] = reservation.ports[1]
            dialling.transport._links.end_all("the test cuts it")
            await dialling.events.until(lambda events: events.disconnects == 1 and events.connected == {2})
            dialling.transport.send(2, (Heartbeat(3, 0, 0, 1),))
            await moved.events.until(lambda events: events.frames)
    reservation.release()


async def test_lookup_that_gets_no_thread_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends as one that finds nothing, and the next one of the same name is made."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    names = Names(Directory(two=2).look_up)
    async with asyncio.timeout(20):
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            failed = await names.begin(("two", 2380))
        assert isinstance(failed, OSError)
        assert await names.begin(("two", 2380)) == [Address(socket.AF_INET, ("127.0.0.1", 2))]


def test_lookup_that_hangs_does_not_keep_a_process_from_ending() -> None:
    """Its thread is a daemon, and no pool waits for it."""
    program = (
        "import asyncio, threading\n"
        "from kvraft.transport.names import Names\n"
        "async def main():\n"
        "    await asyncio.wait([Names(lambda *_: threading.Event().wait()).begin(('name', 1))], timeout=0.05)\n"
        "asyncio.run(main())\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=support.WAIT_S, check=False)
    assert ended.returncode == 0


async def test_name_whose_lookup_hangs_holds_up_no_other_url_of_its_peer() -> None:
    """The first of them that leads anywhere will do, also while no address is known that ever worked."""
    directory = Directory()
    directory.hang()
    async with _two(directory, PATIENT) as dialling:
        dialling.transport.set_peers({2: ("http://three:2380", "http://two:2380")})
        await dialling.events.until(lambda events: events.connected == {2})
        directory.ports_of["three"] = 1


async def test_session_whose_acceptor_goes_with_its_answer_is_dialled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connections end before anybody uses them as lanes: no session must stand for ever without them."""
    greet = Dialler._greet
    resets = 2

    async def greet_and_be_reset(
        self: Dialler, address: Address, target: Target, lane: Lane, number: int
    ) -> tuple[Mailbox, Greeting]:
        nonlocal resets
        mailbox, theirs = await greet(self, address, target, lane, number)
        if resets:
            resets -= 1
            mailbox.connection.abort("reset by peer")
        return mailbox, theirs

    monkeypatch.setattr(Dialler, "_greet", greet_and_be_reset)
    reservation = ports.reserve(3)
    first, second, nobody = reservation.ports
    one, two = support.make_peer(1, {1: first, 2: second}), support.make_peer(2, {1: nobody, 2: second})
    async with support.running(one), support.running(two):
        await one.events.until(lambda events: events.connected == {2})
        one.transport.send(2, (Heartbeat(3, 0, 0, 1),))
        await two.events.until(lambda events: events.frames)
    assert (resets, one.events.disconnects) == (0, 0)
    reservation.release()


@pytest.mark.parametrize("dialler", [1, 2])
async def test_link_that_only_one_side_can_dial_carries_both_directions(dialler: int) -> None:
    """etcd#639, #813: a dead address, a firewall that lets one direction pass, a peer behind NAT."""
    reservation = ports.reserve(4)
    first, second, nobody, nobody_else = reservation.ports
    one = support.make_peer(1, {1: first, 2: second if dialler == 1 else nobody})
    two = support.make_peer(2, {1: first if dialler == 2 else nobody_else, 2: second})
    async with support.running(one), support.running(two):
        await one.events.until(lambda events: events.connected == {2})
        await two.events.until(lambda events: events.connected == {1})
        one.transport.send(2, [support.append(support.entries(3, 100)), Heartbeat(3, 0, 0, 1)])
        two.transport.send(1, [support.append(support.entries(3, 100)), Heartbeat(3, 0, 0, 2)])
        for peer in (one, two):
            await peer.events.until(lambda events: len(events.frames) == 2)
            assert peer.events.disconnects == 0
    reservation.release()


async def test_attempt_under_way_is_cut_when_the_peer_has_dialled() -> None:
    """It would last a minute; the next one, when the peer's session has ended, begins at once."""
    reservation = ports.reserve(2)
    first, second = reservation.ports
    came: asyncio.Queue[None] = asyncio.Queue()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.put_nowait(None)
        await reader.read()
        writer.close()

    async def dialled_twice() -> None:
        async with asyncio.timeout(support.WAIT_S):
            for _lane in range(2):
                await came.get()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    one = support.make_peer(1, {1: first, 2: second}, PATIENT)
    one.transport.set_peers({2: (support.url(server.sockets[0].getsockname()[1]),)})
    two = support.make_peer(2, {1: first, 2: second})
    async with server, support.running(one):
        await dialled_twice()
        async with support.running(two):
            await one.events.until(lambda events: events.connected == {2})
        await one.events.until(lambda events: events.disconnects)
        await dialled_twice()
    reservation.release()


async def test_both_lanes_are_dialled_at_once() -> None:
    """A round trip of 400 ms fits a dial of 700 ms, which one lane after the other would not."""
    settings = dataclasses.replace(support.QUICK, connect_timeout_ms=700, greeting_timeout_ms=5000)
    reservation = ports.reserve(3)
    first, second, nobody = reservation.ports
    async with _far(second, 0.2) as far_port:
        one = support.make_peer(1, {1: first, 2: far_port}, settings)
        two = support.make_peer(2, {1: nobody, 2: second}, settings)
        async with support.running(one), support.running(two):
            await two.events.until(lambda events: events.connected == {1})
    reservation.release()


@contextlib.asynccontextmanager
async def _far(target: int, delay_s: float) -> AsyncIterator[int]:
    """A port whose bytes take a while, both ways."""
    loop = asyncio.get_running_loop()
    serving: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            loop.call_later(delay_s, writer.write, data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target)
        ways = [asyncio.create_task(pass_on(reader, there_writer)), asyncio.create_task(pass_on(there_reader, writer))]
        serving.update(ways)
        try:
            await asyncio.wait(ways)
        finally:
            writer.transport.abort()
            there_writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for way in serving:
            way.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def test_dialling_that_is_cancelled_by_a_stray_hand_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever must live is watched over: a peer is never left undialled."""
    directory = Directory()
    async with _two(directory) as dialling:
        dialling.transport._dialling[2].cancel()
        await dialling.events.until(lambda events: events.connected == {2})
        dialling.transport._dialling[2].cancel()
        dialling.transport._links.end_all("the test cuts it")
        await dialling.events.until(lambda events: events.disconnects == 1 and events.connected == {2})
    assert sum("begins anew" in record.getMessage() for record in caplog.records) == 2


async def test_bug_in_dialling_reaches_the_loop_and_the_peer_is_dialled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The composition root stops the member for it; a transport that goes on has not lost its peer."""
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context.get("exception")))
    error = RuntimeError("a bug")
    original = Dialler._dial
    bugs = [error]

    async def dial(self: Dialler) -> object:
        if bugs:
            raise bugs.pop()
        return await original(self)

    monkeypatch.setattr(Dialler, "_dial", dial)
    async with _two(Directory()) as dialling:
        await dialling.events.until(lambda events: events.connected == {2})
    assert seen == [error]


async def test_attempt_that_is_nearly_there_when_the_peer_leaves_leads_to_no_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its greetings are answered, and the set of peers changes in the same turn of the loop."""
    entered: list[object] = []
    both_greeted = asyncio.Event()
    loop, greet, enter = asyncio.get_running_loop(), Dialler._greet, Links.enter

    async def leaving(
        dialler: Dialler, address: Address, target: Target, lane: Lane, number: int
    ) -> tuple[Mailbox, Greeting]:
        outcome = await greet(dialler, address, target, lane, number)
        if lane is Lane.ENTRIES:
            both_greeted.set()
        else:
            await both_greeted.wait()
            # In the very turn in which the attempt goes on behind both.
            loop.call_soon(loop.call_soon, dialling.transport.set_peers, {})
        return outcome

    def recording(links: Links[Session], session: Session) -> None:
        if session.dialled_here:
            entered.append(session)
        enter(links, session)

    monkeypatch.setattr(Dialler, "_greet", leaving)
    monkeypatch.setattr(Links, "enter", recording)
    async with _two(Directory()) as dialling:
        async with asyncio.timeout(support.WAIT_S):
            await both_greeted.wait()
        # Whatever the attempt still does, it does before this ends.
        await asyncio.gather(
            *(task for task in asyncio.all_tasks() if task.get_name().startswith("dial ")), return_exceptions=True
        )
    assert entered == []
