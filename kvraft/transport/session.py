"""A session with one peer: two connections ("lanes"), dialled by either side, that carry frames both ways."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from kvraft.peer_frames import Frame, GreetingRefusalReason, GreetingRefused
from kvraft.transport.codec import (
    Fragment,
    Reassembly,
    WireError,
    Word,
    decode_message,
    encode_fragments,
    encode_frames,
    encode_word,
    frame_size,
)
from kvraft.transport.connection import Connection, Pulse
from kvraft.transport.envelope import encode_answer
from kvraft.transport.framing import seal
from kvraft.transport.handshake import LANES, Gate, Greeting, Lane
from kvraft.transport.interfaces import PeerTls
from kvraft.transport.lanes import OutboundQueue, lane_of
from kvraft.transport.links import Links
from kvraft.transport.reports import Reports
from kvraft.transport.settings import TransportSettings


@final
class LastFrame:
    """The last frame that left alone, with what was found out about it: followers that are level are sent the same."""

    def __init__(self, bulk_command_bytes: int) -> None:
        """See `TransportSettings.bulk_command_bytes`."""
        self.lane: Lane = Lane.CONTROL
        self.frame_bytes = 0
        self._bulk_command_bytes = bulk_command_bytes
        self._frame: Frame | None = None
        self._sealed = b""

    def be(self, frame: Frame) -> None:
        """Speak of this frame from now on."""
        if frame is not self._frame and frame != self._frame:
            self.frame_bytes = frame_size(frame)
            self.lane = lane_of(frame, self.frame_bytes, self._bulk_command_bytes)
            self._frame = frame
            self._sealed = b""

    def sealed(self) -> bytes:
        """A message with this frame alone, encoded once for all who get it one after another."""
        if not self._sealed:
            assert self._frame is not None, "a frame was named"
            self._sealed = seal(encode_frames((self._frame,)))
        return self._sealed


@final
@dataclass(slots=True)
class Wiring:
    """What all sessions of one transport have to hand."""

    settings: TransportSettings
    gate: Gate
    reports: Reports
    pulse: Pulse
    links: "Links[Session]"
    on_fetch: Callable[[int, Word], None]
    """A peer has a snapshot for us and cannot dial us (FETCH), or could not fetch ours (NOT_FETCHED)."""
    tls: PeerTls | None = None
    """For https URLs; None where there are none."""
    last_frame: LastFrame = field(init=False)

    def __post_init__(self) -> None:
        self.last_frame = LastFrame(self.settings.bulk_command_bytes)


@final
class Session:
    """One life of both lanes."""

    def __init__(self, wiring: Wiring, theirs: Greeting, *, dialled_here: bool) -> None:
        """`theirs` is the peer's greeting, on either lane."""
        self._theirs: Final = theirs
        self.member_id: int = theirs.hello.member_id
        self.instance: bytes = theirs.instance
        self.number: int = theirs.session
        self.dialled_here: bool = dialled_here
        self.address = ""
        self.wiring: Final = wiring
        self.is_up = False
        self.is_retired = False
        self._lanes: dict[Lane, _SessionLane] = {}
        self._ended = False

    @property
    def has_ended(self) -> bool:
        """Whether it is over, whether or not it ever was up."""
        return self._ended

    @property
    def urgent(self) -> Connection:
        """The connection of what is urgent, of a session that is up."""
        return self._lanes[Lane.CONTROL].connection

    def take(self, lane: Lane, connection: Connection, on_known: Callable[[], None] = lambda: None) -> None:
        """Use this connection for that lane; its greeting was accepted here. `on_known` is called once all is done.

        Raises:
            WireError: there is one already.
        """
        if lane in self._lanes:
            raise WireError(f"a second {lane.name} lane of one session")
        self.address = connection.address
        self._lanes[lane] = _SessionLane(self, lane, connection, on_known)
        connections = [each.connection for each in self._lanes.values()]
        for each in connections:
            each.together = connections

    def accept_all(self) -> None:
        """As the dialler: tell the acceptor that its greetings are accepted. Frames may follow."""
        for lane in self._lanes.values():
            lane.is_accepted = True
            lane.connection.write(encode_word(Word.ACCEPTED))
        self.begin_if_complete()

    def begin_if_complete(self) -> None:
        """Both lanes accepted by both sides: from now on frames are sent, and what was held is given out."""
        if (
            self.is_up
            or self._ended
            or not all(lane in self._lanes and self._lanes[lane].is_accepted for lane in LANES)
        ):
            return
        if self.wiring.links.replace(self) and self._is_refused_now():
            return
        self.is_up = True
        for lane in self._lanes.values():
            lane.on_known()
            lane.connection.watch()
        self.wiring.links.up(self)
        if self.has_ended:
            return
        for lane in self._lanes.values():
            lane.begin()

    def _is_refused_now(self) -> bool:
        """Judge the peer's process once more, by all that its predecessor had sent; if it is refused, end."""
        refusal = self.wiring.gate.judge(self._theirs)
        if refusal is not None:
            self.wiring.reports.refusing(self.member_id, self.address, refusal)
            self.end("it was refused")  # it dials anew, and hears why
        return refusal is not None

    def send(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Send frames, or queue them if the connection is full; returns those that were dropped."""
        if len(frames) == 1:
            last_frame = self.wiring.last_frame
            last_frame.be(frames[0])
            return self._lanes[last_frame.lane].send_alone(frames[0], last_frame)
        bulk_command_bytes = self.wiring.settings.bulk_command_bytes
        by_lane: dict[Lane, list[tuple[Frame, int]]] = {}
        for frame in frames:
            frame_bytes = frame_size(frame)
            lane = lane_of(frame, frame_bytes, bulk_command_bytes)
            by_lane.setdefault(lane, []).append((frame, frame_bytes))
        dropped: list[Frame] = []
        for lane, sized in by_lane.items():
            dropped += self._lanes[lane].send(sized)
        return dropped

    def say(self, word: Word) -> None:
        """On the control lane."""
        self._lanes[Lane.CONTROL].connection.write(encode_word(word))

    def retire(self) -> None:
        """As the dialler, while another session stands: nothing more is sent here, and the acceptor ends it."""
        self.is_retired = True
        self.wiring.links.retire(self)
        for lane in self._lanes.values():
            lane.then(lambda lane=lane: lane.connection.write(encode_word(Word.RETIRE)))  # type: ignore[misc]  # mypy cannot infer a default's type in a lambda

    def on_retire(self, lane: "_SessionLane") -> None:
        """As the acceptor: what is queued still leaves, then this lane ends."""
        self.is_retired = True
        self.wiring.links.retire(self)
        lane.then(lambda: lane.connection.close("its dialler has retired the session"))

    def on_lane_lost(self, reason: str) -> None:
        """One lane has ended, and with it the session; a retired one ends lane by lane."""
        if self.is_retired and any(lane.connection.is_open for lane in self._lanes.values()):
            return
        self.end(reason)

    def end(self, reason: str, refusal: GreetingRefused | None = None) -> None:
        """End both lanes and say what had not left. A refusal is the last word on each: the first one read counts."""
        if self._ended:
            return
        self._ended = True
        unsent: list[Frame] = []
        for lane in self._lanes.values():
            unsent += lane.clear()
        self.wiring.links.down(self, reason)
        for lane in self._lanes.values():
            if refusal is None:
                lane.connection.abort(reason)
            else:
                lane.connection.write(encode_answer(refusal))
                lane.connection.close(reason)
        if unsent:
            self.wiring.reports.unsent(self.member_id, unsent)


@final
class _SessionLane:
    """What a session does with one of its connections."""

    def __init__(self, session: Session, lane: Lane, connection: Connection, on_known: Callable[[], None]) -> None:
        self.connection: Final = connection
        self.is_accepted = False
        """By the dialler, too."""
        self.on_known: Final = on_known
        """To be called once the session is up: until then its time is limited."""
        self._session = session
        settings = session.wiring.settings
        self._reports = session.wiring.reports
        self._message_bytes_max = settings.message_bytes_max
        bounds = (
            (settings.entries_frames_max, settings.entries_bytes_max)
            if lane is Lane.ENTRIES
            else (settings.control_frames_max, settings.control_bytes_max)
        )
        self._queue = OutboundQueue(*bounds, settings.message_bytes_max)
        self._leaving: Frame | None = None
        """A large frame of which a part has left, and not the last."""
        self._parts: Iterator[bytes] = iter(())
        self._next_part: bytes | None = None
        self._then: Callable[[], None] | None = None
        self._arriving = Reassembly(settings.frame_bytes_max)
        self._inbox: list[Frame] = []
        connection.user = self

    def send_alone(self, frame: Frame, last_frame: LastFrame) -> Sequence[Frame]:
        """The way of almost every frame: a message for it alone, which the next follower may get, too."""
        if last_frame.frame_bytes <= self._message_bytes_max and self._is_idle():
            self._write_sealed(last_frame.sealed())
            return ()
        return self.send([(frame, last_frame.frame_bytes)])

    def send(self, sized: Sequence[tuple[Frame, int]]) -> Sequence[Frame]:
        """Write frames if there is room, queue them if not; returns those that found no room at all."""
        if self._is_idle() and sum(frame_bytes for _, frame_bytes in sized) <= self._message_bytes_max:
            self._write_sealed(seal(encode_frames(frame for frame, _ in sized)))
            return ()
        dropped = [frame for frame, frame_bytes in sized if not self._queue.push(frame, frame_bytes)]
        self._drain()
        return dropped

    def _is_idle(self) -> bool:
        return not self._queue.frames and self._leaving is None and self.connection.is_writable

    def _write_sealed(self, sealed: bytes) -> None:
        self.connection.write_sealed(sealed)
        self._reports.sent(self._session.member_id, len(sealed))

    def _drain(self) -> None:
        """Write what is queued, as long as there is room."""
        while (self._leaving is not None or self._queue.frames) and self.connection.is_writable:
            if self._leaving is None:
                frames, size = self._queue.take()
                if size <= self._message_bytes_max:
                    self._write_sealed(seal(encode_frames(frames)))
                    continue
                self._leaving = frames[0]
                self._parts = encode_fragments(frames[0], self._message_bytes_max)
                self._next_part = next(self._parts)
            part, self._next_part = self._next_part, next(self._parts, None)
            if self._next_part is None:
                self._leaving = None
            assert part is not None, "a frame that is leaving has a part to come"
            self._write_sealed(seal(part))
        if self._then is not None and self._leaving is None and not self._queue.frames:
            then, self._then = self._then, None
            then()

    def then(self, action: Callable[[], None]) -> None:
        """Do this once nothing is queued."""
        self._then = action
        self._drain()

    def clear(self) -> list[Frame]:
        """Drop what is queued; returns it: none of it has left, or not all of it, which is as good to the peer."""
        leaving = [] if self._leaving is None else [self._leaving]
        self._leaving = self._next_part = self._then = None
        self._parts = iter(())
        return leaving + self._queue.clear()

    def begin(self) -> None:
        """The session is up: give out what came early, and read on."""
        self.connection.go_on()
        self.on_read_end()

    def on_message(self, message: bytes) -> None:
        """Take in a message; its frames are given out at the end of the read."""
        session = self._session
        received = decode_message(message)
        if isinstance(received, list):
            if not self.is_accepted:
                raise WireError("frames before the greeting was accepted")
            if not self._arriving.is_empty:
                raise WireError("frames between the fragments of another")
            self._inbox += received
        elif isinstance(received, Fragment):
            if not self.is_accepted:
                raise WireError("a fragment before the greeting was accepted")
            frame = self._arriving.add(received)
            if frame is not None:
                self._inbox.append(frame)
        elif isinstance(received, GreetingRefused):
            is_parting = session.is_up and received.reason is GreetingRefusalReason.REMOVED
            if not is_parting and (session.dialled_here or session.is_up):
                raise WireError("a refusal behind its greeting")
            session.end("it does not accept this member")
            self._reports.refused_by(session.member_id, received)
            return
        else:
            self._on_word(received)
        self._reports.received(session.member_id, len(message))

    def _on_word(self, word: Word) -> None:
        session = self._session
        if word in {Word.FETCH, Word.NOT_FETCHED} and session.is_up:
            session.wiring.on_fetch(session.member_id, word)
        elif session.dialled_here:
            raise WireError(f"{word.name} from an acceptor")
        elif word is Word.ACCEPTED and not self.is_accepted:
            self.is_accepted = True
            session.begin_if_complete()
            if not session.is_up:
                self.connection.hold_back()
        elif word is Word.RETIRE and session.is_up:
            session.on_retire(self)
        else:
            raise WireError(f"{word.name} out of turn")

    def on_read_end(self) -> None:
        """Give out the frames of this read, in one piece."""
        if self._inbox and self._session.is_up:
            frames, self._inbox = self._inbox, []
            self._reports.frames(self._session.member_id, frames)

    def on_writable(self) -> None:
        """Go on with what is queued."""
        self._drain()

    def on_lost(self, reason: str) -> None:
        """The session ends with its first lane."""
        self._session.on_lane_lost(reason)
