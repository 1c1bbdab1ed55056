"""A backup fetched from a cluster into a file: verified as it comes, gone on with where it broke off, never half there.

What has come stands in `FILE.<copy>.part`, by whose name and length any later call goes on, as long as the member keeps
that copy; FILE itself appears, or is replaced, when all of it is on the disk.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from kvraft import clock
from kvraft.backup.answers import TARGET, BusyError, named, refuse
from kvraft.backup.part import Part
from kvraft.client import Answer, BrokenOff, Client, ClientError, Unreachable
from kvraft.client.connection import Stream
from kvraft.records import BackupFacts
from kvraft.storage.backup_file import BackupDecoder
from kvraft.storage.errors import BackupError
from kvraft.storage.spool import SpoolHeader

COPY_WITHIN_S: Final = 3600.0
"""For the first byte: a large state is copied in minutes, and at a quarter of the speed that it could be."""
PATIENCE_S: Final = 60.0
"""How long a fetch looks for a member that answers, or that has time: longer than a restart. For a chunk, too."""
_HEAD_WITHIN_S: Final = 15.0
"""For the first byte where nothing is copied first."""
_KEPT_S: Final = 600.0
"""Members drop a copy that nobody has asked for so long (member/backups.py: KEPT_MS)."""
_PAUSE_S: Final = 0.5

Progress = Callable[[int, int], None]
"""Told how many bytes have come, and of how many."""


@final
@dataclass(slots=True, frozen=True)
class Fetched:
    """A whole backup."""

    copy_id: str
    size_bytes: int
    endpoint: str
    """Who has sent the end of it."""
    facts: BackupFacts
    header: SpoolHeader


@final
class Fetch:
    """One of them. `run` it once."""

    def __init__(
        self,
        client_of: Callable[[Sequence[str]], Client],
        endpoints: Sequence[str],
        path: Path,
        *,
        with_history: bool = False,
        on_progress: Progress = lambda _come, _of: None,
        on_wait: Callable[[str], None] = lambda _why: None,
    ) -> None:
        self._client_of = client_of
        self._endpoints = list(endpoints)
        self._path = path
        self._with_history = with_history
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._told = ""
        self._came_ms = 0
        self._is_last = False
        """Whether patience was over before this attempt; what comes of it gives it anew."""
        self._silent: set[str] = set()
        """Endpoints that did not answer, or broke off. They are asked last, and for something small first."""

    async def run(self) -> Fetched:
        """Fetch it, whoever of the endpoints it takes.

        Raises:
            BackupError: it arrived damaged, or no member makes one; one line that says why.
            PartInUseError: another process writes this file.
            ClientError: nobody answers, or the answer is that this user may not.
            OSError: the file cannot be written.
        """
        await self._order_endpoints()
        self._came_ms = clock.monotonic_ms()
        while True:
            self._is_last = self._is_patience_over()
            try:
                fetched = await self._attempt()
            except (BrokenOff, Unreachable, BusyError) as error:
                if self._is_last and self._is_patience_over():
                    raise (BackupError(str(error)) if isinstance(error, BusyError) else error) from None
                self._tell(str(error))
            else:
                if fetched is not None:
                    return fetched
            await asyncio.sleep(_PAUSE_S)

    def _is_patience_over(self) -> bool:
        return clock.monotonic_ms() - self._came_ms > PATIENCE_S * 1000

    def _tell(self, why: str) -> None:
        """Say why it takes so long, once for each reason."""
        if why != self._told:
            self._told = why
            self._on_wait(why)

    async def _order_endpoints(self) -> None:
        """Ask the leader last, as it has the most to do, but before whoever does not answer."""
        leaders = set()
        for endpoint in self._endpoints if len(self._endpoints) > 1 else ():
            try:
                stats = (await self._stats_of(endpoint)).json()
                if isinstance(stats, dict) and stats.get("state") == "StateLeader":
                    leaders.add(endpoint)
            except Unreachable:
                self._silent.add(endpoint)
            except ClientError:
                continue
        self._endpoints.sort(key=lambda endpoint: (endpoint in self._silent, endpoint in leaders))

    async def _stats_of(self, endpoint: str) -> Answer:
        """Who leads, soon: of whoever makes a copy nobody would know for an hour that it does not answer."""
        async with self._client_of([endpoint]) as client:
            answer = await client.request("GET", "/v2/stats/self")
        self._silent.discard(endpoint)
        return answer

    async def _attempt(self) -> Fetched | None:
        """Go on with what is there, or begin; None: once more, from the beginning."""
        begun = Part.find(self._path)
        if begun is None:
            return await self._from_anybody(None, {"history": "true"} if self._with_history else {})
        with begun:
            fetched = await self._from_anybody(begun, {"copy": begun.copy_id, "offset": str(begun.size_bytes)})
            if fetched is None:
                begun.remove()
                self._came_ms = clock.monotonic_ms()
            return fetched

    async def _from_anybody(self, part: Part | None, query: Mapping[str, str]) -> Fetched | None:
        """The first endpoint that has it; None if all say that they have not, or those that answer do for long enough.

        Raises:
            BrokenOff: it came to a part of it.
            Unreachable: one of them, which may have it, does not answer.
            BusyError: they have no time, or no room.
        """
        failed: Exception | None = None
        is_gone = False
        for endpoint in list(self._endpoints):
            within_s = COPY_WITHIN_S if part is None else _HEAD_WITHIN_S
            try:
                if endpoint in self._silent:
                    await self._stats_of(endpoint)
                async with (
                    self._client_of([endpoint]) as client,
                    client.stream("GET", TARGET, query=query, timeout_s=within_s) as stream,
                ):
                    if part is not None and stream.status in {410, 416}:
                        is_gone = True
                        continue
                    await refuse(stream)
                    return await self._take(stream, part)
            except (Unreachable, BusyError) as error:
                failed = error
            except BrokenOff as error:
                failed = error
                self._ask_last(endpoint)
                break
        if failed is not None and not (part is not None and is_gone and self._is_given_up(part)):
            raise failed
        return None

    def _ask_last(self, endpoint: str) -> None:
        self._silent.add(endpoint)
        self._endpoints.remove(endpoint)
        self._endpoints.append(endpoint)

    def _is_given_up(self, part: Part) -> bool:
        """Whether to begin anew, though an endpoint that does not answer may have the rest."""
        return part.age_s > _KEPT_S or (self._is_last and self._is_patience_over())

    async def _take(self, stream: Stream, part: Part | None) -> Fetched | None:
        """Write what comes, and verify it."""
        copy_id, size_bytes = named(stream)
        if part is None:
            with Part.begin(self._path, copy_id) as made:
                return await self._take_into(made, stream, size_bytes)
        return await self._take_into(part, stream, size_bytes)

    async def _take_into(self, part: Part, stream: Stream, size_bytes: int) -> Fetched | None:
        decoder = BackupDecoder(str(self._path), size_bytes)
        try:
            part.read_into(decoder)
            if decoder.is_open and decoder.facts.with_history != self._with_history:
                part.remove()
                return None
            async for chunk in self._chunks(stream):
                part.write(chunk)
                decoder.feed(chunk)
                self._on_progress(decoder.taken_bytes, size_bytes)
            _finish(decoder, part.copy_id, stream.endpoint)
            part.keep(size_bytes)
        except BackupError:
            part.remove()
            raise
        return Fetched(part.copy_id, size_bytes, stream.endpoint, decoder.facts, decoder.header)

    async def _chunks(self, stream: Stream) -> AsyncIterator[bytes]:
        """What comes.

        Raises:
            BrokenOff: it did not come to its end, or nothing comes any more.
        """
        chunks, comes = stream.chunks(), False
        while True:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if comes:
                    self._came_ms = clock.monotonic_ms()  # patience with the others begins now
                raise BrokenOff(stream.endpoint, f"has sent nothing for {PATIENCE_S:g} s") from None
            comes = True
            self._came_ms = clock.monotonic_ms()
            yield chunk


def _finish(decoder: BackupDecoder, copy_id: str, endpoint: str) -> None:
    if decoder.finish() != copy_id:
        raise BackupError(f"{endpoint} has sent another copy than it has named: take it again")
