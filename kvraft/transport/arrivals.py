"""The acceptor's side of the greeting: who dialled, on which lane, and what becomes of the connection."""

from collections.abc import Callable
from typing import final

from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused
from kvraft.transport.codec import WireError, Word, decode_message
from kvraft.transport.connection import Connection, Mailbox
from kvraft.transport.envelope import decode_greeting, encode_answer
from kvraft.transport.handshake import LANES, Greeting
from kvraft.transport.names import target_of
from kvraft.transport.session import Session, Wiring

TakeSnapshot = Callable[[Greeting, Mailbox], None]
"""Goes on with a connection that was greeted for a snapshot and accepted by both sides."""


@final
class Arrivals:
    """Every connection that greets us."""

    def __init__(self, wiring: Wiring, take_snapshot: TakeSnapshot) -> None:
        self.wiring = wiring
        self.take_snapshot = take_snapshot
        self._sessions: dict[tuple[int, bytes, int], Session] = {}
        """By peer, process and number: those whose second lane is awaited."""

    def welcome(self, connection: Connection, on_greeted: Callable[[], None], on_known: Callable[[], None]) -> None:
        """Expect a greeting on a new connection.

        `on_greeted` is called once it is a member's lane, `on_known` once nothing more is awaited.
        """
        connection.user = _Arrival(self, connection, on_greeted, on_known)

    def session_of(self, theirs: Greeting) -> Session:
        """The session that this greeting belongs to; with its second lane it is complete."""
        key = (theirs.hello.member_id, theirs.instance, theirs.session)
        session = self._sessions.pop(key, None)
        if session is None or session.has_ended:
            session = Session(self.wiring, theirs, dialled_here=False)
            # Before the answer: so sessions take one another's place in the order of the peer's processes (`Links`).
            self.wiring.links.enter(session)
            self._sessions = {known: each for known, each in self._sessions.items() if not each.has_ended}
            self._sessions[key] = session
        return session


@final
class _Arrival:
    """A connection before its greeting; a snapshot's also until its dialler accepts the answer."""

    def __init__(
        self,
        arrivals: Arrivals,
        connection: Connection,
        on_greeted: Callable[[], None],
        on_known: Callable[[], None],
    ) -> None:
        self._arrivals = arrivals
        self._connection = connection
        self._on_greeted = on_greeted
        self._on_known = on_known
        self._theirs: Greeting | None = None

    def on_message(self, message: bytes) -> None:
        """The greeting, and for a snapshot the dialler's word."""
        if self._theirs is None:
            self._greet(decode_greeting(message))
        else:
            self._hear(self._theirs, message)

    def _greet(self, theirs: Greeting) -> None:
        wiring, connection = self._arrivals.wiring, self._connection
        member_id = theirs.hello.member_id
        refusal = self._judge_certificate(theirs) or wiring.gate.judge(theirs)
        if refusal is not None:
            wiring.reports.refusing(member_id, connection.address, refusal)
            connection.write(encode_answer(refusal))
            connection.close("it was refused")
            return
        wiring.reports.accepts(member_id)
        self._theirs = theirs
        connection.greeted()
        if theirs.lane in LANES:
            session = self._arrivals.session_of(theirs)
            session.take(theirs.lane, connection, self._on_known)
            self._on_greeted()
        connection.write(encode_answer(wiring.gate.greeting(member_id, theirs.lane, theirs.session)))

    def _judge_certificate(self, theirs: Greeting) -> GreetingRefused | None:
        """A certificate of another member's is refused before anything that its owner says of himself is weighed."""
        wiring, member_id = self._arrivals.wiring, theirs.hello.member_id
        urls = wiring.gate.urls.get(member_id)
        if wiring.tls is None or not urls:
            return None
        reason = wiring.tls.why_another(self._connection.transport, [target_of(url)[0] for url in urls])
        if not reason:
            return None
        return GreetingRefused(
            GreetingRefusalReason.WRONG_MEMBER,
            f"member {member_id:x} is at {','.join(urls)}, and {reason}: give each member a certificate of its host",
        )

    def _hear(self, theirs: Greeting, message: bytes) -> None:
        said = decode_message(message)
        if isinstance(said, GreetingRefused):
            self._connection.abort("it does not accept this member")
            self._arrivals.wiring.reports.refused_by(theirs.hello.member_id, said)
            return
        if said is not Word.ACCEPTED:
            raise WireError(f"something else than an answer to the greeting for {theirs.lane.name}")
        self._on_known()
        self._connection.watch()
        self._arrivals.take_snapshot(theirs, Mailbox(self._connection))

    def on_read_end(self) -> None:
        """Nothing is kept."""

    def on_writable(self) -> None:
        """Nothing waits."""

    def on_lost(self, reason: str) -> None:
        """Nothing was promised."""
