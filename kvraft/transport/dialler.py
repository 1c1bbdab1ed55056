"""Dials one peer for as long as there is no session with it, whoever dials the one that comes."""

import asyncio
import random
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, final

from kvraft import clock, logs
from kvraft.peer_frames import GreetingRefused
from kvraft.transport.codec import WireError, Word, encode_word
from kvraft.transport.connection import Connection, Mailbox
from kvraft.transport.envelope import decode_answer, encode_answer
from kvraft.transport.framing import MAGIC
from kvraft.transport.handshake import LANES, Greeting, Lane
from kvraft.transport.names import Address, Found, Names, Target, is_secure, target_of
from kvraft.transport.session import Session, Wiring

_Reached = TypeVar("_Reached")
_log = logs.get(__name__)


class UnreachableError(Exception):
    """No address of the peer led to it; the text says why, of the last one that was tried."""


@final
class GreetingRefusedError(Exception):
    """One side does not accept the other; it has been reported."""


@final
class Dialler:
    """Dials one peer. `run` never ends by itself."""

    def __init__(
        self,
        member_id: int,
        urls: Sequence[str],
        wiring: Wiring,
        names: Names,
        next_session: Callable[[], int],
        rng: random.Random,
        *,
        is_second: bool,
    ) -> None:
        """`next_session` numbers this member's sessions; `is_second` if the peer is to dial first where both can."""
        self.member_id: Final = member_id
        self.urls: Final = tuple(urls)
        self._targets: Final = tuple(target_of(url) for url in urls)
        self._secure: Final = frozenset(target_of(url) for url in urls if is_secure(url))
        self._wiring = wiring
        self._settings = wiring.settings
        self._names = names
        self._next_session = next_session
        self._rng = rng
        self._is_second = is_second
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._attempt: asyncio.Task[Session] | None = None
        self._given_up = False
        self._stages: dict[Address, str] = {}
        """How far the attempts at each address have come, in words."""
        self._complain_at_ms = 0
        """When it is next said that the peer is out of reach; 0: it is not, or was not dialled yet."""

    def connected(self, *, dialled_here: bool) -> None:
        """There is a session; if it is the peer that dialled it, an attempt that is under way has become pointless."""
        self._wanted.clear()
        self._complain_at_ms = 0
        if self._attempt is not None and not dialled_here:
            self._attempt.cancel()
        for target in self._targets:
            # Who was dialled by the peer so far can dial it all the same when the name server is no more.
            if self._names.worked(target) is None:
                self._names.begin(target)

    def give_up(self) -> None:
        """The peer is no member any more, or has moved: also an attempt that is nearly there leads to no session."""
        self._given_up = True
        if self._attempt is not None:
            self._attempt.cancel()

    def disconnected(self) -> None:
        """There is none any more."""
        self._wanted.set()

    async def run(self) -> None:
        """Dial while there is no session, until cancelled."""
        settings = self._settings
        failures = 0
        if self._is_second:
            await self._pause(settings.backoff_min_ms)
        while True:
            if not self._wanted.is_set():
                await self._wanted.wait()
                failures = 0
                # Who breaks at once is not dialled in a whirl; and of two that dial each other one is first.
                await self._pause(settings.backoff_min_ms << self._is_second)
                continue
            self._attempt = asyncio.create_task(self._dial(), name=f"dial {self.member_id:x}")
            try:
                await asyncio.wait([self._attempt])
            finally:
                self._attempt.cancel()
            pause_ms = min(settings.backoff_max_ms, settings.backoff_min_ms << failures)
            failures = min(failures + 1, 16)
            if not self._attempt.cancelled():
                error = self._attempt.exception()
                if isinstance(error, GreetingRefusedError):
                    pause_ms = settings.refused_backoff_ms
                elif isinstance(error, UnreachableError):
                    self._out_of_reach(error)
                elif isinstance(error, Exception):
                    self._wiring.reports.bug(error)
            if self._wanted.is_set():
                await self._pause(pause_ms)

    async def _pause(self, pause_ms: int) -> None:
        await asyncio.sleep(self._rng.uniform(pause_ms / 2, pause_ms) / 1000)

    def _out_of_reach(self, error: UnreachableError) -> None:
        """Log a failed attempt: most of them for those who debug, one a minute for whoever is on duty."""
        now_ms = clock.monotonic_ms()
        complain_at_ms = self._complain_at_ms or now_ms + self._settings.unreachable_after_ms
        peer, url = self._wiring.reports.name(self.member_id), ",".join(self.urls)
        if now_ms >= complain_at_ms:
            complain_at_ms = now_ms + self._settings.unreachable_again_ms
            text = "no connection to peer: is it running, and is this its address?"
            _log.warning(text, peer=peer, url=url, error=error)
        else:
            _log.debug("no connection to peer", peer=peer, url=url, error=error)
        self._complain_at_ms = complain_at_ms

    async def _dial(self) -> Session:
        """A session, up."""
        return await self._reach(self._open_session, lambda session: session.end("another one was faster"))

    async def open(self, lane: Lane) -> Mailbox:
        """A connection for a snapshot, accepted by both sides.

        Raises:
            UnreachableError: the peer was not reached.
            GreetingRefusedError: one side does not accept the other.
        """

        async def dial(address: Address, target: Target) -> Mailbox:
            mailbox, _ = await self._greet(address, target, lane, 0)
            mailbox.connection.watch()
            mailbox.connection.write(encode_word(Word.ACCEPTED))
            return mailbox

        return await self._reach(dial, lambda mailbox: mailbox.connection.abort("another one was faster"))

    async def ask(self) -> Greeting:
        """What the peer says of itself, on a connection that ends with that.

        Raises:
            UnreachableError: the peer was not reached.
            GreetingRefusedError: one side does not accept the other.
        """

        async def dial(address: Address, target: Target) -> Greeting:
            mailbox, theirs = await self._greet(address, target, Lane.SNAPSHOT, 0)  # a lane that belongs to no session
            mailbox.connection.abort("the peer was only asked who it is")
            return theirs

        return await self._reach(dial, lambda _theirs: None)

    async def _reach(
        self, dial: Callable[[Address, Target], Awaitable[_Reached]], discard: Callable[[_Reached], None]
    ) -> _Reached:
        """Try the peer's addresses, one after another and side by side; the first that leads to it counts.

        Until an address is known that worked, the first name to be found is waited for, and then hardly at all. What
        the others lead to in the end is tried, too.

        Raises:
            UnreachableError: none led to the peer.
            GreetingRefusedError: one side does not accept the other.
        """
        looking: dict[asyncio.Future[Found], Target] = {self._names.begin(target): target for target in self._targets}
        known = [(address, target) for target in self._targets if (address := self._names.worked(target)) is not None]
        if not known:
            timeout_s = self._settings.connect_timeout_ms / 1000
            await asyncio.wait(looking, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(looking, timeout=self._settings.known_address_ms / 1000)
        race = _Race(dial, self._settings.next_address_ms / 1000)
        self._stages.clear()
        try:
            async with asyncio.timeout(self._settings.connect_timeout_ms / 1000):
                while True:
                    for done in [each for each in looking if each.done()]:
                        race.add(done.result(), looking.pop(done))
                    for address, target in known:  # behind what was found
                        race.add([address], target)
                    outcome = await race.step(looking)
                    if outcome is not None:
                        reached, address, target = outcome
                        self._names.remember(target, address)
                        return reached
        except TimeoutError:
            complaint = race.complaint_of(self._stages)
            raise UnreachableError(f"no answer in {self._settings.connect_timeout_ms} ms; {complaint}") from None
        finally:
            await race.end(discard)

    async def _open_session(self, address: Address, target: Target) -> Session:
        """Both lanes at once, greeted and accepted."""
        number = self._next_session()
        greeting = [asyncio.create_task(self._greet(address, target, lane, number)) for lane in LANES]
        try:
            lanes = await asyncio.gather(*greeting)
        except BaseException:
            await _give_up(greeting)
            raise
        (_, first), (_, second) = lanes
        lost = next((mailbox.lost for mailbox, _ in lanes if mailbox.lost is not None), None)
        if lost is None and first.instance != second.instance:
            lost = "it was restarted meanwhile"
        if lost is not None:  # Whoever takes over a connection is not told of an end that was told before.
            await _give_up(greeting)
            raise ConnectionError(lost)
        if self._given_up:
            await _give_up(greeting)
            raise ConnectionError("it is not to be dialled here any more")
        session = Session(self._wiring, first, dialled_here=True)
        # Before the word, behind which alone anything is sent on it: see `Links`.
        self._wiring.links.enter(session)
        for mailbox, theirs in lanes:
            session.take(theirs.lane, mailbox.connection)
        session.accept_all()
        return session

    async def _greet(self, address: Address, target: Target, lane: Lane, number: int) -> tuple[Mailbox, Greeting]:
        """One connection whose greetings both sides know, and this side accepts."""
        mailbox = await self._connect(address, target)
        connection = mailbox.connection
        try:
            connection.write(encode_answer(self._wiring.gate.greeting(self.member_id, lane, number)))
            answer = decode_answer(await mailbox.read())
            return mailbox, self._judge(answer, connection, lane, number)
        except WireError as error:
            peer = self._wiring.reports.name(self.member_id)
            _log.warning("peer speaks another protocol", peer=peer, address=connection.address, error=error)
            connection.abort(str(error))
            raise ConnectionError(str(error)) from error
        except GreetingRefusedError:
            connection.close("it was refused")
            raise
        except BaseException:
            connection.abort("the attempt was given up")
            raise

    def _judge(self, answer: Greeting | GreetingRefused, connection: Connection, lane: Lane, number: int) -> Greeting:
        """The acceptor's greeting, if it is accepted.

        Raises:
            GreetingRefusedError: one side does not accept the other.
            ConnectionError: our greeting told too little by the time that it was judged; the next one will do.
        """
        reports, gate = self._wiring.reports, self._wiring.gate
        if isinstance(answer, GreetingRefused):
            reports.refused_by(self.member_id, answer)
            if answer.is_overtaken(gate.local_hello().last_log_index):
                raise ConnectionError("it was greeted too late")
            raise GreetingRefusedError
        reports.accepted_by(self.member_id)
        refusal = gate.judge_answer(answer, self.member_id, lane, number)
        if refusal is not None:
            reports.refusing(self.member_id, connection.address, refusal)
            connection.write(encode_answer(refusal))
            raise GreetingRefusedError
        reports.accepts(self.member_id)
        connection.greeted()
        return answer

    async def _connect(self, address: Address, target: Target) -> Mailbox:
        loop = asyncio.get_running_loop()
        made = Connection(self._wiring.reports, self._settings, self._wiring.pulse)
        mailbox = Mailbox(made)
        dialling = socket.socket(address.family, socket.SOCK_STREAM)
        dialling.setblocking(False)
        try:
            await loop.sock_connect(dialling, address.sockaddr)
            if target in self._secure:
                assert self._wiring.tls is not None, "a transport without TLS has no https peers"
                self._stages[address] = "it is connected and does not finish the TLS handshake"
                transport = await self._wiring.tls.dial(dialling, target[0], made)
            else:
                transport, _ = await loop.create_connection(lambda: made, sock=dialling)
        except BaseException:
            dialling.close()
            raise
        self._stages[address] = "it is connected and says nothing"
        transport.write(MAGIC)
        return mailbox


async def _give_up(greeting: Sequence[asyncio.Task[tuple[Mailbox, Greeting]]]) -> None:
    """End the attempts at both lanes, also one that has succeeded."""
    for task in greeting:
        task.cancel()
    for outcome in await asyncio.gather(*greeting, return_exceptions=True):
        if not isinstance(outcome, BaseException):
            outcome[0].connection.abort("the other lane failed")


@final
class _Race(Generic[_Reached]):
    """Attempts at several addresses, each begun a moment after the one before, or when that has failed."""

    def __init__(self, dial: Callable[[Address, Target], Awaitable[_Reached]], next_address_s: float) -> None:
        self.complaint = "its name has not been found yet"
        """What the last attempt that ended failed with."""
        self._dial = dial
        self._next_address_s = next_address_s
        self._targets: dict[Address, Target] = {}
        self._untried: deque[Address] = deque()
        self._running: dict[asyncio.Task[_Reached], Address] = {}
        self._refused = False

    def add(self, found: Found, target: Target) -> None:
        """More addresses to try, or why there are none."""
        if isinstance(found, OSError):
            self.complaint = f"{target[0]}: {found.strerror or found}"
            return
        for address in found:
            if address not in self._targets:
                self._targets[address] = target
                self._untried.append(address)

    async def step(self, looking: Collection[asyncio.Future[Found]]) -> tuple[_Reached, Address, Target] | None:
        """Begin the next attempt and wait for something to happen; what was reached, and where.

        Raises:
            UnreachableError: nothing is left to be tried.
            GreetingRefusedError: and one side did not accept the other.
        """
        if self._untried:
            address = self._untried.popleft()
            self._running[asyncio.ensure_future(self._dial(address, self._targets[address]))] = address
        waiting: list[asyncio.Future[Any]] = [*self._running, *looking]
        if not waiting:
            raise GreetingRefusedError if self._refused else UnreachableError(self.complaint)
        timeout = self._next_address_s if self._untried else None
        await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in [task for task in self._running if task.done()]:
            address = self._running.pop(task)
            try:
                return task.result(), address, self._targets[address]
            except GreetingRefusedError:
                self._refused = True
            except OSError as error:
                self.complaint = f"{address.sockaddr[0]}: {error.strerror or error}"
        return None

    def complaint_of(self, stages: Mapping[Address, str]) -> str:
        """What is to be said when the time is over: how far the oldest attempt has come, if one is under way."""
        for address in self._running.values():
            return f"{address.sockaddr[0]}: {stages.get(address, 'it does not answer')}"
        return self.complaint

    async def end(self, discard: Callable[[_Reached], None]) -> None:
        """Give up what still runs; `discard` ends what was reached too late."""
        for task in self._running:
            task.cancel()
        for outcome in await asyncio.gather(*self._running, return_exceptions=True):
            if not isinstance(outcome, BaseException):
                discard(outcome)
