"""A member that is about to give up what it has asks the others first whether they have it."""

import asyncio
import contextlib
from typing import Final

from kvraft import logs
from kvraft.member.peer_memory import holders_of_one_history
from kvraft.peer_frames import PeerHello
from kvraft.raft.rebuild import enough_know
from kvraft.settings.settings import Settings
from kvraft.storage.aside import holds_data
from kvraft.transport.interfaces import PeerTls
from kvraft.transport.settings import TransportSettings
from kvraft.transport.survey import Survey

log = logs.get(__name__)

_AGAIN_S: Final = 1.0


async def may_set_aside(
    wanted: Settings, settings: TransportSettings, stop: asyncio.Event, tls: PeerTls | None = None
) -> bool:
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
        tls,
    )
    told: set[int] | None = None
    while True:
        holding = holders_of_one_history(await survey.ask())
        if enough_know(len(holding), len(wanted.members)):
            return True
        if holding != told:
            told = holding
            log.warning(
                "nothing is set aside before more of the others hold the data",
                member=wanted.name,
                holding=",".join(sorted(names[member_id] for member_id in holding)) or "nobody",
                missing=",".join(sorted(names[member_id] for member_id in names.keys() - holding)),
            )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_AGAIN_S):
                await stop.wait()
                return False
