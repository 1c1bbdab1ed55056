"""Hands leadership over before a stop, to a member that can take it; gives up once nobody can (thesis section 3.10).

The core hands over to whom it is told, and waits for that server alone. Which servers can be reached the member knows
better, and when the one that was asked goes away, as in a stop of the whole cluster, waiting for it helps nobody.
"""

import asyncio
from collections.abc import Callable
from typing import final

from kvraft import logs
from kvraft.member.raft_loop import RaftLoop
from kvraft.raft.effects import Role
from kvraft.raft.inputs import TransferLeadership
from kvraft.raft.progress import ProgressState, most_up_to_date

log = logs.get(__name__)


@final
class Handover:
    """One member's; told of whatever may change who leads or who can."""

    def __init__(self, name: str, loop: RaftLoop, is_connected: Callable[[int], bool], patience_ms: int) -> None:
        self._name = name
        self._loop = loop
        self._is_connected = is_connected
        self._patience_ms = patience_ms
        self._changed = asyncio.Event()

    def look_again(self) -> None:
        """The role has changed, or a peer has gone."""
        self._changed.set()

    async def run(self) -> None:
        """Return when another leads, when nobody can be asked any more, or when the patience is over."""
        raft = self._loop.raft
        if raft.role is not Role.LEADER or len(raft.configuration.voters) == 1:
            return
        log.info("handing leadership over", member=self._name)
        try:
            async with asyncio.timeout(self._patience_ms / 1000):
                taken = await self._ask_one_after_another()
        except TimeoutError:
            taken = False
        if not taken:
            log.warning("nobody took leadership over", member=self._name)

    async def _ask_one_after_another(self) -> bool:
        raft = self._loop.raft
        asked = 0
        while True:
            self._changed.clear()
            if raft.role is Role.LEADER:
                successor = self._successor()
                if not successor:
                    return False
                if successor != asked:
                    asked = successor
                    self._loop.put(TransferLeadership(successor))
            elif raft.leader_id:
                return True
            elif not self._connected_voters():
                return False  # whom it voted for has gone as well
            await self._changed.wait()

    def _successor(self) -> int:
        """The server that was asked stays the best while it is there: its log only grows. 0 if nobody can be asked."""
        progress = self._loop.raft.progress
        able = [server for server in self._connected_voters() if progress[server].state is not ProgressState.SNAPSHOT]
        return most_up_to_date(progress, able)

    def _connected_voters(self) -> list[int]:
        raft = self._loop.raft
        return [server for server in raft.configuration.voters if self._is_connected(server)]
