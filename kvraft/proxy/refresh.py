"""Learns from the members who they are now, again and again, for as long as the proxy runs.

Unlike etcd's, a proxy that gets no answer keeps the endpoints that it knows, and one whose endpoint has failed asks at
once: so it follows a cluster whose members are all replaced between two refreshes.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

from kvraft import logs
from kvraft.proxy.cluster_file import ClusterFile
from kvraft.proxy.director import Director

log = logs.get(__name__)

_SOON_S: Final = 1.0
"""Between two questions at least, however much fails; and while no endpoint is known, as in etcd."""


@final
@dataclass(slots=True, frozen=True)
class Told:
    """What a member says of its cluster."""

    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    """None before any member has started."""


class UntoldError(Exception):
    """Nobody answers. The text says who was asked last, and why it was no answer."""


Ask = Callable[[Sequence[str]], Awaitable[Told]]
"""Asks members at their peer URLs, one after the other. Raises UntoldError."""


@final
class Refresher:
    """Asks.

    Args:
        peer_urls: Of the members that are known at the start.
        ask: How.
        director: Who is told of the endpoints.
        file: Where the peer URLs are kept.
        interval_ms: How often.
    """

    def __init__(
        self, peer_urls: Sequence[str], ask: Ask, director: Director, file: ClusterFile, interval_ms: int
    ) -> None:
        self._peer_urls = tuple(peer_urls)
        self._ask = ask
        self._director = director
        self._file = file
        self._interval_s = max(interval_ms / 1000, 0.05)
        self._hurry = asyncio.Event()
        self._is_kept = False
        self._has_told = False
        """It has been said that nobody answers."""

    def soon(self) -> None:
        """Something has failed: who the members are is to be asked soon."""
        self._hurry.set()

    async def run(self) -> None:
        """Never ends by itself."""
        known = bool(self._director.available())
        while True:
            soon_s = min(_SOON_S, self._interval_s)
            await asyncio.sleep(soon_s)
            if known:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval_s - soon_s):
                        await self._hurry.wait()
            self._hurry.clear()
            try:
                known = await self.refresh()
            except Exception:
                log.exception("asking who the members are has failed, and is tried again")
                known = bool(self._director.available())

    async def refresh(self) -> bool:
        """Ask once; whether any endpoint is known."""
        try:
            told = await self._ask(self._peer_urls)
        except UntoldError as error:
            if not self._has_told:
                log.warning("no member says who the members are", error=error, asked=",".join(self._peer_urls))
            self._has_told = True
            return bool(self._director.available())
        if self._has_told:
            log.info("a member says who the members are")
        self._has_told = False
        self._director.refresh(told.client_urls)
        if told.peer_urls != self._peer_urls or not self._is_kept:
            if self._is_kept:
                log.info("peer URLs changed", old=",".join(self._peer_urls), new=",".join(told.peer_urls))
            self._peer_urls = told.peer_urls
            self._keep()
        return bool(told.client_urls)

    def _keep(self) -> None:
        try:
            self._file.write(self._peer_urls)
        except OSError as error:
            log.warning("the members' peer URLs cannot be kept", path=self._file.path, error=error)
        else:
            self._is_kept = True
