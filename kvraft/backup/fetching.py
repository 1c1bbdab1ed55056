"""A backup fetched from a cluster into a file: verified as it comes, gone on with where it broke off, never half there.

What has come stands in `FILE.<copy>.part`, by whose name and length any later call goes on, as long as the member keeps
that copy; FILE itself appears, or is replaced, when all of it is on the disk.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from kvraft import clock
from kvraft.backup.part import COPY_ID, Part
from kvraft.client import BadAnswer, BrokenOff, Client, ClientError, Unreachable
from kvraft.client.connection import Stream
from kvraft.client.values import refusal
from kvraft.records import BackupFacts
from kvraft.storage.backup_file import BackupDecoder
from kvraft.storage.errors import BackupError
from kvraft.storage.spool import SpoolHeader

TARGET: Final = "/v2/kvraft/backup"
COPY_WITHIN_S: Final = 3600.0
"""For the first byte: a large state is copied in minutes, and at a quarter of the speed that it could be."""
PATIENCE_S: Final = 60.0
"""How long a fetch looks for a member that answers, or that has time: longer than a restart."""
_PAUSE_S: Final = 0.5
_SIZE: Final = re.compile(r"[0-9]{1,18}")

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

    async def run(self) -> Fetched:
        """Fetch it, whoever of the endpoints it takes.

        Raises:
            BackupError: it arrived damaged, or no member makes one; one line that says why.
            PartInUseError: another process writes this file.
            ClientError: nobody answers, or the answer is that this user may not.
            OSError: the file cannot be written.
        """
        await self._prefer_followers()
        self._came_ms = clock.monotonic_ms()
        while True:
            try:
                fetched = await self._attempt()
            except (BrokenOff, Unreachable, _BusyError) as error:
                if clock.monotonic_ms() - self._came_ms > PATIENCE_S * 1000:
                    raise (BackupError(str(error)) if isinstance(error, _BusyError) else error) from None
                self._tell(str(error))
            else:
                if fetched is not None:
                    return fetched
            await asyncio.sleep(_PAUSE_S)

    def _tell(self, why: str) -> None:
        """Say why it takes so long, once for each reason."""
        if why != self._told:
            self._told = why
            self._on_wait(why)

    async def _prefer_followers(self) -> None:
        """Ask the leader last: it has the most to do."""
        leaders = []
        for endpoint in self._endpoints if len(self._endpoints) > 1 else ():
            try:
                async with self._client_of([endpoint]) as client:
                    stats = (await client.request("GET", "/v2/stats/self")).json()
            except ClientError:
                continue
            if isinstance(stats, dict) and stats.get("state") == "StateLeader":
                leaders.append(endpoint)
        self._endpoints.sort(key=leaders.__contains__)

    async def _attempt(self) -> Fetched | None:
        """Go on with what is there, or begin; None: once more, from the beginning."""
        begun = Part.find(self._path)
        if begun is None:
            return await self._from_anybody(None, {"history": "true"} if self._with_history else {})
        with begun:
            fetched = await self._from_anybody(begun, {"copy": begun.copy_id, "offset": str(begun.size_bytes)})
            if fetched is None:
                begun.remove()
            return fetched

    async def _from_anybody(self, part: Part | None, query: Mapping[str, str]) -> Fetched | None:
        """The first endpoint that has it; None if all say that they have not.

        Raises:
            BrokenOff: it came to a part of it.
            Unreachable: one of them, which may have it, does not answer.
            _BusyError: they have no time, or no room.
        """
        failed: Exception | None = None
        for endpoint in self._endpoints:
            try:
                async with (
                    self._client_of([endpoint]) as client,
                    client.stream("GET", TARGET, query=query, timeout_s=COPY_WITHIN_S) as stream,
                ):
                    if stream.status in {410, 416}:
                        continue
                    await _refuse(stream)
                    return await self._take(stream, part)
            except (Unreachable, _BusyError) as error:
                failed = error
        if failed is not None:
            raise failed
        return None

    async def _take(self, stream: Stream, part: Part | None) -> Fetched | None:
        """Write what comes, and verify it."""
        copy_id, size_bytes = _named(stream)
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
            async for chunk in stream.chunks():
                part.write(chunk)
                decoder.feed(chunk)
                self._came_ms = clock.monotonic_ms()
                self._on_progress(decoder.taken_bytes, size_bytes)
            _finish(decoder, part.copy_id, stream.endpoint)
            part.keep(size_bytes)
        except BackupError:
            part.remove()
            raise
        return Fetched(part.copy_id, size_bytes, stream.endpoint, decoder.facts, decoder.header)


class _BusyError(Exception):
    """A member makes no copy now."""


def _finish(decoder: BackupDecoder, copy_id: str, endpoint: str) -> None:
    if decoder.finish() != copy_id:
        raise BackupError(f"{endpoint} has sent another copy than it has named: take it again")


def _named(stream: Stream) -> tuple[str, int]:
    """Name and length of the copy that is sent."""
    copy_id, size = stream.headers.get("X-Kvraft-Backup", ""), stream.headers.get("X-Kvraft-Backup-Size", "")
    if COPY_ID.fullmatch(copy_id) is None or _SIZE.fullmatch(size) is None:
        raise BadAnswer(stream.endpoint, "answers, and not with a backup: is kvraft there?")
    return copy_id, int(size)


async def _refuse(stream: Stream) -> None:
    """Raise for whatever is no copy."""
    if stream.status in {200, 206}:
        return
    if stream.status == 404:
        raise BackupError(f"{stream.endpoint} has no {TARGET}: it is etcd, or an older kvraft")
    refused = refusal(stream.status, await stream.read(), stream.etcd_index)
    if stream.status in {503, 507}:
        raise _BusyError(f"{stream.endpoint}: {refused.message}")
    raise refused
