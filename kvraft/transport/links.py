"""When a peer counts as connected. No I/O.

Connected means: our two streams to the peer are accepted, and its two streams to us. One of the four breaking is
enough for the opposite, since all of them break at once when a process dies and the first one is noticed first.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, final

from kvraft.transport.handshake import Lane

_NEEDED: Final = frozenset({Lane.CONTROL, Lane.ENTRIES})


@final
@dataclass(slots=True, eq=False)
class Inbound:
    """One accepted stream of a peer."""

    member_id: int
    lane: Lane
    instance: bytes
    stale: bool = False
    """A newer stream took its place: whatever still arrives on it belongs to the past."""


@final
@dataclass(slots=True)
class _Link:
    outbound_instance: bytes | None = None
    inbound: dict[Lane, Inbound] = field(default_factory=dict)
    connected: bool = False


@final
class Links:
    """The state of the streams to and from every peer."""

    def __init__(self, on_connected: Callable[[int], None], on_disconnected: Callable[[int], None]) -> None:
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._links: dict[int, _Link] = {}

    def is_connected(self, member_id: int) -> bool:
        """Whether all four streams are up."""
        link = self._links.get(member_id)
        return link is not None and link.connected

    def outbound_up(self, member_id: int, instance: bytes) -> None:
        """Our streams to the peer's process `instance` are accepted."""
        link = self._links.setdefault(member_id, _Link())
        link.outbound_instance = instance
        self._settle(member_id, link)

    def outbound_down(self, member_id: int) -> None:
        """One of our streams to the peer broke."""
        link = self._links.get(member_id)
        if link is not None:
            link.outbound_instance = None
            self._settle(member_id, link)

    def inbound_up(self, member_id: int, lane: Lane, instance: bytes) -> Inbound:
        """A stream of the peer is accepted; it replaces the one before it, and those of an earlier process."""
        link = self._links.setdefault(member_id, _Link())
        replaced = [old for old in link.inbound.values() if old.lane is lane or old.instance != instance]
        for old in replaced:
            old.stale = True
            del link.inbound[old.lane]
        if replaced:
            self._settle(member_id, link)
        inbound = Inbound(member_id, lane, instance)
        link.inbound[lane] = inbound
        self._settle(member_id, link)
        return inbound

    def inbound_down(self, inbound: Inbound) -> None:
        """A stream of the peer broke. One that was replaced changes nothing."""
        if inbound.stale:
            return
        inbound.stale = True
        link = self._links[inbound.member_id]
        del link.inbound[inbound.lane]
        self._settle(inbound.member_id, link)

    def forget(self, member_id: int) -> None:
        """The peer is no longer a member: its streams are stale."""
        link = self._links.pop(member_id, None)
        if link is None:
            return
        for inbound in link.inbound.values():
            inbound.stale = True
        if link.connected:
            self._on_disconnected(member_id)

    def _settle(self, member_id: int, link: _Link) -> None:
        """Report a change of the whole, if this was one."""
        instances = {inbound.instance for inbound in link.inbound.values()}
        connected = link.inbound.keys() >= _NEEDED and instances == {link.outbound_instance}
        if connected == link.connected:
            return
        link.connected = connected
        if connected:
            self._on_connected(member_id)
        else:
            self._on_disconnected(member_id)
