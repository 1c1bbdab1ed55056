"""When a peer counts as connected, and on which session frames leave for it. No I/O.

A peer is connected while a session with its present process is up. Usually there is one. There are two when both sides
have dialled at once, or when one has dialled again and the other has not noticed yet why. The rules:

- A session with another process of the peer that comes up ends all sessions that were greeted before it: its process
  answered a message of ours that is younger than they are, so it lives, and theirs do not. A greeting alone shows
  nothing: it may be a dead process's that was on its way for long. As frames are read only of sessions that are up,
  none of an earlier process is read behind one of a later (`kvraft/raft/rebuild.py` depends on it).
- A session that came up later from the same dialler ends the earlier one: who has a session does not dial. One that
  the peer numbered before or as one that is up is late, or an echo of what the peer once sent: it ends.
- Of two with different diallers both are read, and each side sends on the one that came up last, as the other may be
  half open. Once both have lived for as long as a half-open one cannot, the member with the higher id retires the one
  that it dialled itself.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar, final

from kvraft.peer_frames import GreetingRefused


class Linked(Protocol):
    """A session, as far as this file needs it."""

    member_id: int
    """The peer."""
    instance: bytes
    """Its process."""
    dialled_here: bool
    number: int
    """Rises with each session of the same dialler's process."""
    address: str

    def end(self, reason: str, refusal: GreetingRefused | None = None, /) -> None:
        """End it; it calls `Links.down`. A refusal is the last word to the peer."""
        ...


_WAITING_MAX: Final = 4
"""Sessions of one dialler whose second lane or word is awaited: a name may have several addresses."""

_Session = TypeVar("_Session", bound=Linked)


@final
@dataclass(slots=True)
class _Link(Generic[_Session]):
    entered: list[_Session] = field(default_factory=list)
    """All sessions that were greeted and have not ended."""
    up: dict[int, tuple[_Session, int]] = field(default_factory=dict)
    """By `id`: those that carry frames, the latest last, with the millisecond since when."""
    retired: list[_Session] = field(default_factory=list)
    """Those that carried frames until another one took over, and whose last frames may still come."""
    connected: bool = False


@final
class Links(Generic[_Session]):
    """The sessions with every peer."""

    def __init__(
        self,
        member_id: int,
        monotonic_ms: Callable[[], int],
        on_connected: Callable[[int, str], None],
        on_disconnected: Callable[[int, str], None],
        on_ended: Callable[[int], None],
    ) -> None:
        """`on_connected` is told the peer and its address, `on_disconnected` the peer and the reason.

        `on_ended` is told the peer for each session that has carried frames; the last that stood ends before
        `on_disconnected`, retired ones behind it.
        """
        self._member_id = member_id
        self._monotonic_ms = monotonic_ms
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_ended = on_ended
        self._links: dict[int, _Link[_Session]] = {}

    def current(self, member_id: int) -> _Session | None:
        """The session on which frames leave."""
        link = self._links.get(member_id)
        if link is None or not link.up:
            return None
        return next(reversed(link.up.values()))[0]

    def enter(self, session: _Session) -> None:
        """A greeting was accepted; nothing of this session has been read or sent behind it."""
        link = self._links.setdefault(session.member_id, _Link())
        waiting = [old for old in link.entered if id(old) not in link.up and old.dialled_here == session.dialled_here]
        for old in waiting[: max(0, len(waiting) + 1 - _WAITING_MAX)]:
            old.end("its dialler has begun too many")
        link.entered.append(session)

    def replace(self, session: _Session) -> bool:
        """It is about to come up: end what was greeted before it by another process of the peer; whether any was up.

        If so, what was remembered of the peer may have changed since this session was greeted.
        """
        link, replaced = self._links[session.member_id], False
        for old in link.entered[: link.entered.index(session)]:
            if old.instance != session.instance:
                replaced = replaced or id(old) in link.up or old in link.retired
                old.end("another process of this peer has come")
        return replaced

    def up(self, session: _Session) -> None:
        """Both sides accept each other on both lanes, and `replace` was called."""
        link = self._links[session.member_id]
        if not session.dialled_here and any(
            not old.dialled_here and old.number >= session.number for old, _ in link.up.values()
        ):
            session.end("its dialler has a later session")
            return
        for old in tuple(link.entered):
            if old.dialled_here == session.dialled_here and old.number < session.number:
                old.end("its dialler has dialled anew")
        link.up[id(session)] = (session, self._monotonic_ms())
        self._settle(link, session, "")

    def down(self, session: _Session, reason: str) -> None:
        """It has ended, whatever it was before."""
        link = self._links.get(session.member_id)
        if link is None or session not in link.entered:
            return
        link.entered.remove(session)
        has_carried = link.up.pop(id(session), None) is not None
        if session in link.retired:
            link.retired.remove(session)
            has_carried = True
        if has_carried:
            self._on_ended(session.member_id)
        self._settle(link, session, reason)

    def retire(self, session: _Session) -> None:
        """Nothing more leaves on it, and what was on its way still comes, as long as the peer is connected."""
        link = self._links.get(session.member_id)
        if link is not None and link.up.pop(id(session), None) is not None:
            link.retired.append(session)
            self._settle(link, session, "its dialler has retired the session")

    def redundant(self, settled_ms: int) -> list[_Session]:
        """Sessions that this member is to retire: there is one by the peer, and both have been up for `settled_ms`."""
        before = self._monotonic_ms() - settled_ms
        found = []
        for member_id, link in self._links.items():
            settled = [session for session, since in link.up.values() if since <= before]
            if member_id < self._member_id and any(not session.dialled_here for session in settled):
                found += [session for session in settled if session.dialled_here]
        return found

    def peers(self) -> Collection[int]:
        """Whoever has a session, or had one and is not forgotten."""
        return tuple(self._links)

    def sessions(self, member_id: int) -> Sequence[_Session]:
        """All with this peer that were greeted and have not ended."""
        link = self._links.get(member_id)
        return tuple(link.entered) if link is not None else ()

    def forget(self, member_id: int, refusal: GreetingRefused | None) -> None:
        """The peer is no longer a member; it hears the refusal, if there is one, as the last word of each session."""
        for session in self.sessions(member_id):
            session.end("it is no longer a member", refusal)
        self._links.pop(member_id, None)

    def end_all(self, reason: str) -> None:
        """This member stops."""
        for link in tuple(self._links.values()):
            for session in tuple(link.entered):
                session.end(reason)

    def _settle(self, link: _Link[_Session], session: _Session, reason: str) -> None:
        """Report a change of the whole, if this was one."""
        if bool(link.up) == link.connected:
            return
        link.connected = bool(link.up)
        if link.connected:
            self._on_connected(session.member_id, session.address)
            return
        self._on_disconnected(session.member_id, reason)
        for retired in tuple(link.retired):
            retired.end(reason)
