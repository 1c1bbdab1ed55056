"""Asking the peers what they hold, by a member that is about to give up what it has. It takes part in nothing."""

import asyncio
import itertools
import random
import secrets
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import final

from kvraft import clock
from kvraft.peer_frames import GreetingRefused, PeerHello
from kvraft.transport.connection import Pulse
from kvraft.transport.dialler import Dialler, GreetingRefusedError, UnreachableError
from kvraft.transport.handshake import INSTANCE_BYTES, Gate
from kvraft.transport.interfaces import PeerTls
from kvraft.transport.links import Links
from kvraft.transport.names import Names
from kvraft.transport.reports import Reports
from kvraft.transport.session import Session, Wiring
from kvraft.transport.settings import TransportSettings


@final
class Survey:
    """Greets peers as a member that has lost its disk, which commits it to nothing, and keeps what they answer."""

    def __init__(
        self,
        hello: PeerHello,
        peers: Mapping[int, Sequence[str]],
        names: Mapping[int, str],
        settings: TransportSettings,
        tls: PeerTls | None = None,
    ) -> None:
        """`hello` is this member's, `rebuilding`; `peers` are the others with their peer URLs, `names` for the log."""
        self._hello = hello
        gate = Gate(self, secrets.token_bytes(INSTANCE_BYTES))
        gate.members = frozenset(peers)
        links: Links[Session] = Links(hello.member_id, clock.monotonic_ms, _nothing, _nothing, _nothing)
        reports = Reports(lambda member_id: names.get(member_id, f"{member_id:x}"), lambda: 0, self.voters)
        self._peers = gate.members
        wiring = Wiring(settings, gate, reports, Pulse(settings.silence_ms), links, _nothing, tls)
        rng = random.Random()  # noqa: S311 -- jitter, no secret
        numbers = partial(next, itertools.count(1))
        known = Names()
        self._diallers = [
            Dialler(member_id, urls, wiring, known, numbers, rng, is_second=False) for member_id, urls in peers.items()
        ]

    def local_hello(self) -> PeerHello:
        """For the gate."""
        return self._hello

    def judge(self, hello: PeerHello, instance: bytes) -> GreetingRefused | None:  # noqa: ARG002 -- the gate's
        """Whoever answers is heard: nothing of it goes anywhere."""
        return None

    def removal(self, member_id: int) -> GreetingRefused | None:  # noqa: ARG002 -- the gate's
        """Nobody is told anything."""
        return None

    def voters(self) -> Collection[int]:
        """What this member takes for its cluster."""
        return self._peers

    async def ask(self) -> list[PeerHello]:
        """What all that can be reached say of themselves now. Within the time of one attempt to connect."""
        answers = await asyncio.gather(*(self._ask(dialler) for dialler in self._diallers))
        return [hello for hello in answers if hello is not None]

    async def _ask(self, dialler: Dialler) -> PeerHello | None:
        try:
            return (await dialler.ask()).hello
        except (UnreachableError, GreetingRefusedError):
            return None


def _nothing(*_arguments: object) -> None:
    """A survey has no session, and nobody to tell of one."""
