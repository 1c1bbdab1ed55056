"""The story of an import: copy, follow, compare; each step may be broken off anywhere and done again.

The source is a running cluster that is followed until somebody says stop, or contents that stand still. The end is
always the same: both trees are read, and what differs is repaired, until nothing does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, final

from kvraft import clock
from kvraft.client import Answer, BadAnswer, Client, EventIndexCleared
from kvraft.migration import state_file
from kvraft.migration.account_writing import account_differences, write_accounts
from kvraft.migration.changes import Batch, Difference, coalesced, differences, repair
from kvraft.migration.contents import Contents, MigrationError, UnusableError, hidden_above, hidden_tops, still_alive
from kvraft.migration.following import Follower, until
from kvraft.migration.hidden_names import hidden_if_told
from kvraft.migration.reading import read_cluster
from kvraft.migration.state_file import Progress
from kvraft.migration.writing import Patience, Writer

REPAIRS_MAX: Final = 5
"""A tree that still differs then is being written to."""
SAVE_EVERY_MS: Final = 1000


class Report(Protocol):
    """Who is told how far it is."""

    def phase(self, name: str, total: int | None) -> None:
        """Something else begins: of so many changes, if that is known."""
        ...

    def done(self, count: int) -> None:
        """So many changes more are done."""
        ...

    def waits(self, why: str) -> None:
        """One of the clusters does not answer."""
        ...


@final
@dataclass(slots=True)
class Options:
    """What whoever moves has said."""

    hidden: tuple[bytes, ...] = ()
    """Paths below which a running source is read though no listing shows them."""
    overwrite: bool = False
    """The target may hold something else, which goes."""
    patience_s: float = 300.0
    """For how long a cluster may not answer."""
    passwords: Mapping[str, str] = field(default_factory=dict)
    state: Path = Path("kvraft-import.state")


@final
@dataclass(slots=True)
class Outcome:
    """What an import came to."""

    keys: int
    """Files and directories of the source."""
    repaired: int
    """Differences that were found and mended at the end."""
    left: list[Difference]
    """Differences that are still there."""
    refused: dict[bytes, str]
    """What the target will not take, and why."""
    notes: list[str]


@final
class Import:
    """Into one running cluster."""

    def __init__(self, target: Client, options: Options, report: Report) -> None:
        self._target = target
        self._options = options
        self._report = report
        self._patience = Patience(options.patience_s, report.waits)
        self._writer = Writer(target, self._patience, report.done)
        self._unknown = ""
        """Why it is not known what the target hides; empty where it is."""

    async def of_contents(self, contents: Contents, name: str) -> Outcome:
        """Bring in what stands still: a data directory's contents, or a file's.

        Raises:
            MigrationError: it cannot be.
            ClientError: the target does not answer.
        """
        contents.nodes, gone = still_alive(contents.nodes, clock.wall_ns())
        if gone:
            contents.notes.append(f"{gone} keys have expired by now, and are left")
        await self._begin(name, hidden_tops(contents.nodes))

        async def source() -> Contents:
            return contents

        await self._copy(contents, await self._to_compare(hidden_tops(contents.nodes)))
        return await self._end(source, await self._to_compare(hidden_tops(contents.nodes)))

    async def of_cluster(self, source: Client, stop: asyncio.Event | None) -> Outcome:
        """Copy a running cluster, and follow it until `stop` is set; None: follow it not at all.

        Raises:
            MigrationError: it cannot be.
            ClientError: one of them does not answer.
        """
        if both := set(source.endpoints) & set(self._target.endpoints):
            # Each change copied would be a change to copy, without end.
            raise UnusableError(f"source and target are both {min(both)}: name two clusters")
        progress = await self._begin(await cluster_name(source, self._patience), self._options.hidden)
        # What was followed has been copied: it is looked at even if the source has lost it since.
        hidden = (*self._options.hidden, *(top for top in progress.indices if top != b"/"))
        unknown = ""

        async def look() -> None:
            """What is hidden may have become more."""
            nonlocal hidden, unknown
            found, unknown = await hidden_if_told(source, self._patience)
            hidden = await self._to_compare((*hidden, *found))

        async def read() -> Contents:
            return await self._patience.until_done(lambda: read_cluster(source, hidden))

        while True:
            if not progress.indices:
                self._report.phase("reading the source", None)
                await look()
                contents = await read()
                await self._copy(contents, hidden)
                progress.indices = dict.fromkeys((b"/", *hidden), contents.etcd_index)
                state_file.save(self._options.state, progress)
            if stop is None or stop.is_set():
                break
            try:
                await self._follow(source, progress, stop)
            except EventIndexCleared:
                # The source has forgotten what we have not seen: compare instead.
                progress.indices = {}
        await look()
        outcome = await self._end(read, hidden)
        if unknown:
            outcome.left.append(Difference(b"/", unknown, None, None))
        return outcome

    async def _begin(self, source_name: str, hidden: Sequence[bytes]) -> Progress:
        """Refuse a target that holds something, unless it is ours."""
        target_name = await cluster_name(self._target, self._patience)
        progress = state_file.load(self._options.state, source_name, target_name)
        if progress is not None:
            return progress
        if not self._options.overwrite:
            there = await self._read_target(await self._and_in_target(hidden))
            if there.nodes:
                raise MigrationError(
                    f"the target holds {len(there.nodes)} keys already; name an empty cluster, or give --overwrite,"
                    " which makes it like the source and removes what that has not"
                )
        progress = Progress(source_name, target_name)
        state_file.save(self._options.state, progress)
        return progress

    async def _and_in_target(self, hidden: Sequence[bytes]) -> tuple[bytes, ...]:
        """These paths, and what the target hides: from an import that was broken off, or from before it."""
        found, self._unknown = await hidden_if_told(self._target, self._patience)
        return tuple(sorted({*hidden, *found}))

    async def _to_compare(self, hidden: Sequence[bytes]) -> tuple[bytes, ...]:
        """The same without the directories above these paths: in them stands what nobody named."""
        above = hidden_above(hidden)
        return tuple(top for top in await self._and_in_target(hidden) if top not in above)

    async def _read_target(self, hidden: Sequence[bytes]) -> Contents:
        return await self._patience.until_done(lambda: read_cluster(self._target, hidden, accounts=False))

    async def _copy(self, contents: Contents, hidden: Sequence[bytes]) -> None:
        """Make the target like the source was, whatever it holds."""
        there = await self._read_target(hidden)
        await self._apply("copying", repair(_differences(contents, there, hidden)))

    async def _apply(self, phase: str, batch: Batch) -> None:
        self._report.phase(phase, len(batch))
        await self._writer.apply(batch)

    async def _follow(self, source: Client, progress: Progress, stop: asyncio.Event) -> None:
        """Do what the source does, until told to stop."""
        self._report.phase("following", None)
        indices = dict(progress.indices)
        saved_ms = clock.monotonic_ms()
        async with Follower(source, list(indices), indices, self._patience) as follower:
            async for events in until(stop, follower.batches()):
                await self._writer.apply(coalesced(events))
                if clock.monotonic_ms() - saved_ms >= SAVE_EVERY_MS:
                    progress.indices = dict(follower.indices)
                    state_file.save(self._options.state, progress)
                    saved_ms = clock.monotonic_ms()
            progress.indices = dict(follower.indices)
            state_file.save(self._options.state, progress)

    async def _end(self, read: Callable[[], Awaitable[Contents]], hidden: Sequence[bytes]) -> Outcome:
        """Compare, repair, compare again; then the accounts."""
        repaired = 0
        for _ in range(REPAIRS_MAX):
            self._report.phase("comparing", None)
            contents, there = await read(), await self._read_target(hidden)
            found = _differences(contents, there, hidden)
            found = [each for each in found if each.path not in self._writer.refused]
            if not found:
                break
            repaired += len(found)
            await self._apply("repairing", repair(found))
        notes = [*contents.notes]
        notes += await write_accounts(self._target, contents, self._options.passwords, self._patience)
        found += await account_differences(self._target, contents, self._patience)
        if self._unknown:
            found.append(Difference(b"/", f"in the target, {self._unknown}", None, None))
        if not found:
            self._options.state.unlink(missing_ok=True)
        return Outcome(len(contents.nodes), repaired, found, self._writer.refused, notes)


def _differences(contents: Contents, there: Contents, hidden: Sequence[bytes]) -> list[Difference]:
    """Without directories that only the target has above a hidden path: what else is in them was not read."""
    above = hidden_above(hidden)
    found = differences(contents.nodes, there.nodes, clock.wall_ns(), contents.unsure_ns + there.unsure_ns)
    return [each for each in found if each.what != "extra" or each.path not in above]


async def cluster_name(client: Client, patience: Patience) -> str:
    """Where a cluster is, and which: so that another one at the same place is told from it."""
    answer = await patience.until_done(lambda: _asked(client))
    return f"{','.join(sorted(client.endpoints))} (cluster {answer.headers.get('X-Etcd-Cluster-Id', 'of no id')})"


async def _asked(client: Client) -> Answer:
    answer = await client.request("GET", "/v2/keys/", query={"quorum": True})
    if answer.status == 404:
        raise BadAnswer(answer.endpoint, "no v2 API there; an etcd from 3.4 on has it with --enable-v2")
    return answer.checked()
