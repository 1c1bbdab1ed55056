"""`kvraft import`: into a running cluster, from another one, from a stopped etcd's directory, or from a file."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import click

from kvraft import clock
from kvraft.commands import import_arguments as arguments
from kvraft.commands.calls import Call, subcommand
from kvraft.commands.exits import Exit, Failure, must_be_a_file, of_file
from kvraft.commands.options import Given, Seconds
from kvraft.migration import founding_backup, json_lines
from kvraft.migration.contents import Contents, MigrationError, UnusableError, shown, still_alive
from kvraft.migration.etcd_directory import read_directory
from kvraft.migration.hidden_names import hidden_if_told
from kvraft.migration.moving import Import, Options, Outcome
from kvraft.migration.reading import read_cluster
from kvraft.migration.writing import Patience

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SHOWN_MAX: Final = 20
"""Differences that are listed for people; --json has all."""
_TOLD_EVERY_MS: Final = 10_000
"""Without a terminal."""
_STANDARD_INPUT: Final = "-"


@subcommand()
@click.argument("file", required=False)
@click.option("--from", "source", metavar="URL,...", help="A running etcd (2.x to 3.5) or kvraft to copy and follow.")
@click.option("--from-data-dir", "directory", metavar="DIR", help="The data directory of a stopped etcd (2.x or 3.x).")
@click.option("--wal-dir", metavar="DIR", help="Where that etcd had its log, if it had --wal-dir.")
@click.option("--committed-only", is_flag=True, help="Leave entries of its log that it may not have committed.")
@click.option("--to", "target", metavar="URL,...", help="The cluster to write to. Default: --endpoints.")
@click.option("--to-backup", "backup", metavar="FILE", help="Write a file for kvraft restore, with the old indices.")
@click.option("--hidden", multiple=True, metavar="KEY", help="Copy this hidden key too, with all below it. Repeatable.")
@click.option("--once", is_flag=True, help="Copy and compare; do not follow.")
@click.option("--overwrite", is_flag=True, help="The target may hold keys; those that the source has not, go.")
@click.option("--passwords", metavar="FILE", help="Lines of NAME:PASSWORD for users to be made; no API tells them.")
@click.option("--state", default="kvraft-import.state", show_default=True, metavar="FILE", help="How far it is.")
@click.option(
    "--patience",
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    type=Seconds(min=0),
    help="Ask a cluster that does not answer so long.",
)
@click.option("--from-user", metavar="NAME[:PASSWORD]", help="As --user, for the source.")
@click.option("--from-cacert", metavar="FILE", help="As --cacert, for the source.")
@click.option("--from-cert", metavar="FILE", help="As --cert, for the source.")
@click.option("--from-key", metavar="FILE", help="As --key, for the source.")
async def command(
    call: Call,
    file: str | None,
    source: str | None,
    directory: str | None,
    wal_dir: str | None,
    target: str | None,
    backup: str | None,
    hidden: tuple[str, ...],
    passwords: str | None,
    state: str,
    patience: float,
    from_user: str | None,
    from_cacert: str | None,
    from_cert: str | None,
    from_key: str | None,
    *,
    committed_only: bool,
    once: bool,
    overwrite: bool,
) -> Exit:
    """Bring keys, users and roles into a running cluster.

    Give one of --from, --from-data-dir, and FILE (of kvraft export; - for stdin). --user, --cacert and their like are
    for the target, which may be an etcd with its v2 API, too.

    With --to-backup no cluster is written to: kvraft restore founds one with the file, which has the old indices and,
    of a data directory, users with their passwords.

    With --from it goes on copying whatever changes until Ctrl-C: stop the source's writers, press Ctrl-C, and both
    trees are compared and made equal. Ended in any other way, the same command goes on where it was.
    """
    if sum(each is not None for each in (file, source, directory)) != 1:
        raise click.UsageError("give one source: --from, --from-data-dir or FILE")
    arguments.refuse_useless(click.get_current_context())
    from_urls, to_urls = arguments.urls("--from", source), arguments.urls("--to", target)
    must_be_a_file(state if backup is None else backup)
    tops = tuple(arguments.hidden_path(name) for name in hidden)
    options = Options(tops, overwrite, patience, arguments.passwords(passwords), Path(state))
    given = Given({}, "--from-")
    facts = {"user": from_user, "cacert": from_cacert, "cert": from_cert, "key": from_key}
    facts |= {"timeout": call.given.values.get("timeout")}
    given.values.update({name: value for name, value in facts.items() if value})
    with failing(), _Teller(call) as teller:
        still = _what_stands_still(file, directory, wal_dir, committed_only=committed_only)
        if backup is not None:
            unknown = ""
            if still is None:
                async with arguments.client_of_source(given, from_urls) as from_client:
                    found, unknown = await hidden_if_told(from_client, Patience(patience, teller.waits))
                    still = (await read_cluster(from_client, sorted({*tops, *found})), "")
            return _write_backup(call, still[0], backup, unknown)
        async with call.client(to_urls) as to_client, contextlib.AsyncExitStack() as stack:
            moving = Import(to_client, options, teller)
            if still is not None:
                outcome = await _to_its_end(moving.of_contents(*still), teller, None)
            else:
                from_client = await stack.enter_async_context(arguments.client_of_source(given, from_urls))
                stop = None if once else asyncio.Event()
                outcome = await _to_its_end(moving.of_cluster(from_client, stop), teller, stop)
    return _tell(call, outcome)


def _write_backup(call: Call, contents: Contents, name: str, unknown: str) -> Exit:
    """No cluster is written to. `unknown`: why there may be hidden keys that it has not."""
    contents.notes += [unknown] if unknown else []
    contents.nodes, gone = still_alive(contents.nodes, clock.wall_ns())
    try:
        founding_backup.write(contents, Path(name))
    except OSError as error:
        raise of_file(error, name) from error
    for note in contents.notes:
        call.out.note(f"note: {note}")
    if call.out.is_json:
        facts = {"file": name, "keys": len(contents.nodes), "etcd_index": contents.etcd_index, "expired": gone}
        call.out.json(facts | {"notes": contents.notes})
    else:
        call.out.line(f"{name}: {len(contents.nodes)} keys at index {contents.etcd_index}, for kvraft restore")
    return Exit.NOT_WELL if unknown else Exit.DONE


def _what_stands_still(
    file: str | None, directory: str | None, wal_dir: str | None, *, committed_only: bool
) -> tuple[Contents, str] | None:
    """The contents of a directory or file, and its name; None for a running source."""
    if directory is not None:
        wal_directory = Path(wal_dir) if wal_dir else None
        contents = read_directory(Path(directory), wal_directory, committed_only=committed_only)
        return contents, os.path.realpath(directory)
    return None if file is None else (_read_file(file), os.path.realpath(file))


def _read_file(name: str) -> Contents:
    try:
        with click.open_file(name, "rb") as lines:
            return json_lines.contents_of(lines, name)
    except OSError as error:
        raise of_file(error, name) from error


@contextlib.contextmanager
def failing() -> Iterator[None]:
    """What goes wrong, as a line."""
    try:
        yield
    except UnusableError as error:
        raise Failure(str(error), Exit.WRONG_ARGUMENTS) from error
    except MigrationError as error:
        raise Failure(str(error)) from error


async def _to_its_end(work: Coroutine[Any, Any, Outcome], teller: "_Teller", stop: asyncio.Event | None) -> Outcome:
    """Ctrl-C once it has followed ends that; before, a second time, and SIGTERM, break it off."""
    task = asyncio.ensure_future(work)
    ended: list[Failure] = []

    def end(word: str, exit_code: Exit) -> None:
        ended.append(Failure(f"{word}: the same command goes on where it was", exit_code))
        task.cancel()

    def interrupted() -> None:
        if stop is not None and teller.has_followed and not stop.is_set():
            stop.set()
        else:
            end("interrupted", Exit.INTERRUPTED)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, end, "terminated", Exit.TERMINATED)
    try:
        return await task
    except asyncio.CancelledError:
        if ended:
            raise ended[0] from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)


@final
class _Teller:
    """Shows how far it is: bars on a terminal, otherwise a line now and then. A context manager."""

    def __init__(self, call: Call) -> None:
        self._out = call.out
        self._stack = contextlib.ExitStack()
        self._bars: Progress | None = None
        self._bar: TaskID | None = None
        self._name, self._total, self._count = "", 0, 0
        self._began_ms = self._told_ms = self._waited_ms = 0
        self.has_followed = False
        """Whether the first copy is made, so that Ctrl-C means to switch."""

    def __enter__(self) -> "_Teller":
        bars = self._stack.enter_context(self._out.progress())
        self._bars = None if bars.disable else bars
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None and self._bar is not None:
            self._bars.remove_task(self._bar)
        self._stack.close()

    def phase(self, name: str, total: int | None) -> None:
        """See `Report.phase`."""
        has_followed = self.has_followed
        self.has_followed = has_followed or name == "following"
        self._name, self._total, self._count = name, total or 0, 0
        self._began_ms = self._told_ms = clock.monotonic_ms()
        if self._bars is not None:
            if self._bar is not None:
                self._bars.remove_task(self._bar)
            self._bar = self._bars.add_task(self._text(), total=total)
            if self.has_followed and not has_followed:
                self._bars.print("The copy is made. Stop the source's writers, then press Ctrl-C to switch over.")
        else:
            self._out.note(f"{name}: {total} changes" if total else name)

    def done(self, count: int) -> None:
        """See `Report.done`."""
        self._count += count
        now_ms = clock.monotonic_ms()
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, completed=self._count, description=self._text())
        elif now_ms - self._told_ms >= _TOLD_EVERY_MS:
            self._told_ms = now_ms
            self._out.note(f"{self._text()}, {self._left()}" if self._total else self._text())

    def waits(self, why: str) -> None:
        """See `Report.waits`; a line every 10 s at most."""
        now_ms = clock.monotonic_ms()
        if now_ms - self._waited_ms >= _TOLD_EVERY_MS:
            self._waited_ms = now_ms
            self._out.note(f"waiting: {why}")

    def _rate(self) -> float:
        return self._count * 1000 / max(clock.monotonic_ms() - self._began_ms, 1)

    def _text(self) -> str:
        of_total = f" of {self._total}" if self._total and self._bars is None else ""
        count = f" {self._count}{of_total}" if self._bars is None else ""
        return f"{self._name}{count}, {self._rate():.0f}/s"

    def _left(self) -> str:
        return f"{(self._total - self._count) / max(self._rate(), 1e-3):.0f} s left"


def _tell(call: Call, outcome: Outcome) -> Exit:
    """What it came to."""
    for note in outcome.notes:
        call.out.note(f"note: {note}")
    left = [(shown(each.path), each.what) for each in outcome.left]
    left += [(shown(path), f"refused: {why}") for path, why in sorted(outcome.refused.items())]
    if call.out.is_json:
        found = [{"key": key, "difference": what} for key, what in left]
        call.out.json(
            {"keys": outcome.keys, "repaired": outcome.repaired, "differences": found, "notes": outcome.notes}
        )
    elif left:
        call.out.table(["KEY", "DIFFERENCE"], [[key, (what, "bad")] for key, what in left[:_SHOWN_MAX]])
        more = f", {_SHOWN_MAX} of them above (--json lists all)" if len(left) > _SHOWN_MAX else ""
        call.out.line(f"{outcome.keys} keys, {len(left)} differences{more}", "bad")
    else:
        call.out.line(f"{outcome.keys} keys, no difference", "good")
    return Exit.NOT_WELL if left else Exit.DONE
