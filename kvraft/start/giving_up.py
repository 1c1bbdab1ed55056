"""A member that is about to give up what it has asks the others first whether they have it.

Those count that vote, by the configuration of each that is asked, or may vote by now.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from kvraft import logs
from kvraft.member.peer_memory import holders_of_one_history
from kvraft.peer_frames import PeerHello
from kvraft.raft.rebuild import enough_know
from kvraft.settings.settings import Settings
from kvraft.start.members_of_the_day import voters_told
from kvraft.start.tls import Security
from kvraft.storage.aside import holds_data
from kvraft.transport.settings import TransportSettings
from kvraft.transport.survey import Survey

log = logs.get(__name__)

_AGAIN_S: Final = 1.0


async def may_set_aside(wanted: Settings, settings: TransportSettings, stop: asyncio.Event, security: Security) -> bool:
    """Wait until nothing can be lost by setting this member's data aside; False if told to stop first.

    True at once if there is nothing to set aside.
    """
    if not holds_data(wanted.data_dir):
        return True
    others = {peer.member_id: peer for peer in wanted.members if peer.member_id != wanted.member_id}
    names = {member_id: peer.name for member_id, peer in others.items()}
    survey = Survey(
        PeerHello(wanted.cluster_id, wanted.member_id, 0, rebuilding=True),
        {member_id: peer.peer_urls for member_id, peer in others.items()},
        names,
        settings,
        security.peers,
    )
    told: tuple[AbstractSet[int], AbstractSet[int]] | None = None
    while True:
        holding = holders_of_one_history(await survey.ask())
        voters = await voters_told(wanted, security)
        if enough_would_be_left(holding, voters, names.keys()):
            return True
        if told != (holding, holding - voters.keys()):
            told = (holding, holding - voters.keys())
            log.warning(
                "nothing is set aside before more of the others hold the data",
                member=wanted.name,
                holding=_named(holding, names) or "nobody",
                missing=_named(names.keys() - holding, names) or "nobody",
                silent=_named(holding - voters.keys(), names) or "nobody",
            )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_AGAIN_S):
                await stop.wait()
                return False


def _named(members: AbstractSet[int], names: Mapping[int, str]) -> str:
    return ",".join(sorted(names[member_id] for member_id in members))


def enough_would_be_left(
    holding: AbstractSet[int], voters_told_by: Mapping[int, AbstractSet[int]], others: AbstractSet[int]
) -> bool:
    """Whether each majority of the voters has one in it that holds the data.

    That has to be so in every configuration that is told, and in each that may be next: the next change commits with a
    majority of the configuration that it makes (thesis 4.1), and whoever holds the data may not have heard of it. With
    one of them in each such majority it would be told, and so would the one behind it.

    A configuration of two may have become one of its own leader alone, who has then seen it do so; it is not asked for.

    Args:
        holding: Who holds the data.
        voters_told_by: Who votes, by who says so; one who holds the data and does not say does not count.
        others: All other members that are known; those that do not vote may have been promoted since.
    """
    telling = holding & voters_told_by.keys()
    views = {frozenset(voters_told_by[member_id]) for member_id in telling}
    possible = {after for voters in views for after in {voters, *_next(voters, others)}}
    return bool(possible) and all(enough_know(len(telling & voters), len(voters)) for voters in possible)


def _next(voters: frozenset[int], others: AbstractSet[int]) -> Iterator[frozenset[int]]:
    """Each configuration that one change makes of it."""
    yield from (voters | {promoted} for promoted in others - voters)
    if len(voters) > 2:
        yield from (voters - {removed} for removed in voters)
