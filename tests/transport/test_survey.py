"""A member asks what the others hold before it gives up what it has, and takes part in nothing by it."""

import dataclasses

from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused, PeerHello
from kvraft.testing import ports
from kvraft.transport.settings import TransportSettings
from kvraft.transport.survey import Survey
from tests.transport import support

ASKER = dataclasses.replace(support.hello(3), current_term=0, rebuilding=True)


async def test_survey_brings_what_each_reachable_peer_says_of_itself() -> None:
    """One answers, one is away, one refuses; whoever answers has no session and hears of nobody."""
    reservation = ports.reserve(3)
    port_of = dict(zip((1, 2, 4), reservation.ports, strict=True))
    holding = dataclasses.replace(support.hello(1), last_log_index=9, last_log_term=3, founding=b"a founding of 16")
    judged: list[PeerHello] = []
    one = support.make_peer(
        1, {1: port_of[1], 3: ports.reserve(1).ports[0]}, local=support.Local(holding, judged.append)
    )
    removed = support.Local(
        support.hello(4), lambda _hello: GreetingRefused(GreetingRefusalReason.REMOVED, "it was removed")
    )
    four = support.make_peer(4, {3: port_of[2], 4: port_of[4]}, local=removed)
    urls = {member_id: [support.url(port)] for member_id, port in port_of.items()}
    survey = Survey(ASKER, urls, {}, TransportSettings())
    async with support.running(one), support.running(four):
        for _ in range(2):
            assert await survey.ask() == [holding]
        assert one.events.connected == set()
        assert one.events.frames == []
    assert judged == [ASKER] * 2
    reservation.release()
