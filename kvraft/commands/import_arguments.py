"""What `kvraft import` is given: its arguments as values, those that make no sense, and a client of the source."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import click

from kvraft.client import BadAnswer, BrokenOff, Client, EtcdError, UnknownOutcome, Unreachable
from kvraft.commands.exits import Exit, Failure, told
from kvraft.commands.options import Given


def hidden_path(name: str) -> bytes:
    """The key of a --hidden.

    Raises:
        UsageError: it names none.
    """
    path = "/" + name.strip("/")
    if path == "/" or "//" in path:
        raise click.UsageError(f"--hidden {name}: name a key, such as /_coreos.com")
    return path.encode("utf-8", "surrogateescape")


def refuse_useless(context: click.Context) -> None:
    """An option that changes nothing is a mistake that nobody would notice."""
    given, useless = context.params, dict[str, str]()
    if given["directory"] is None:
        useless |= dict.fromkeys(("wal_dir", "committed_only"), "goes with --from-data-dir")
    if given["source"] is None:
        useless |= dict.fromkeys(("from_user", "from_cacert", "from_cert", "from_key"), "goes with --from")
    if given["backup"] is not None:
        useless |= dict.fromkeys(("target", "overwrite", "passwords"), "is for a cluster, and not for --to-backup")
    for parameter in context.command.params:
        if parameter.name in useless and given[parameter.name]:
            raise click.UsageError(f"{parameter.opts[0]} {useless[parameter.name]}", context)


@contextlib.asynccontextmanager
async def client_of_source(given: Given, places: list[str]) -> AsyncIterator[Client]:
    """A client of what is copied; what goes wrong with it is told with the names of its options."""
    async with given.client(places) as client:
        try:
            yield client
        except (Unreachable, UnknownOutcome, BrokenOff, BadAnswer, EtcdError) as error:
            asked = error.endpoints if isinstance(error, Unreachable) else (error.endpoint,)
            if not set(asked) <= set(client.endpoints):
                raise
            raise Failure(*told(error, of_source=True)) from error


def urls(option: str, text: str | None) -> list[str]:
    """Those of an option; none where it was not given.

    Raises:
        UsageError: it was given, and names none.
    """
    named = [part for part in (text or "").split(",") if part.strip()]
    if text is not None and not named:
        raise click.UsageError(f"{option}={text}: name a cluster, as http://HOST:PORT")
    return named


def passwords(name: str | None) -> dict[str, str]:
    """Those of a file.

    Raises:
        Failure: it cannot be read, or holds something else.
    """
    if name is None:
        return {}
    try:
        lines = Path(name).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"--passwords={name}: cannot be read ({error})", Exit.WRONG_ARGUMENTS) from error
    pairs = [line.partition(":") for line in lines if line.strip()]
    if any(not user or not colon for user, colon, _ in pairs):
        raise Failure(f"--passwords={name}: lines of NAME:PASSWORD are wanted", Exit.WRONG_ARGUMENTS)
    return {user: password for user, _, password in pairs}
