"""`kvraft restore`: the data directories of new members that begin with a backup."""

import datetime as dt
from pathlib import Path
from typing import Final

import click

from kvraft import clock, ids
from kvraft.backup import restore
from kvraft.backup.contents import moment
from kvraft.backup.new_cluster import NewCluster, Wanted
from kvraft.commands.calls import Call, subcommand
from kvraft.commands.exits import Exit, Failure
from kvraft.commands.options import Text
from kvraft.settings import urls
from kvraft.storage.errors import BackupError, StorageError, StorageFailedError

_NS_PER_S: Final = 1_000_000_000
_AHEAD_MAX_S: Final = 24 * 3600
"""How far --ttl-from may be ahead: a restore may be prepared for the night. A year that was mistyped is further."""


@subcommand()
@click.argument("file", type=click.Path())
@click.option("--peers", metavar="NAME=URL,...", required=True, type=Text(), help="Every new member with its peer URL.")
@click.option("--name", metavar="NAME", type=Text(), help="Write the directory of this one, and no other.")
@click.option(
    "--data-dir",
    metavar="DIR",
    required=True,
    type=click.Path(),
    help="Where: of the member of --name itself; without --name, of one directory for each, by name.",
)
@click.option(
    "--bump-index",
    metavar="N",
    type=click.IntRange(0, 1 << 40),
    default=0,
    help="Let indices go on N beyond the backup's, further than any that a client may have seen since.",
)
@click.option(
    "--ttl-from",
    metavar="TIME",
    type=Text(),
    help="Until when TTLs have counted on since the backup, as 2026-11-29T03:00:00Z. Without it they stood still.",
)
@click.option(
    "--token", metavar="TOKEN", default="", type=Text(), help="The new cluster's, instead of one made of all the above."
)
def command(
    call: Call,
    *,
    file: str,
    peers: str,
    name: str | None,
    data_dir: str,
    bump_index: int,
    ttl_from: str | None,
    token: str,
) -> None:
    """Write the data directories of new members that begin with a backup.

    The members are of a new cluster, with ids of their own, and have nothing to do with the one that was copied; then
    start each with its usual flags. On a machine for each, give every call the same arguments but --name and
    --data-dir. A directory must be empty or not there; what could not be finished leaves nothing behind, or, if it was
    killed, what no member starts with. Be the user who will run the member.
    """
    call.interrupted = "interrupted: nothing is left of it"
    path = Path(file)
    if path.is_dir():
        raise Failure(f"{path} is a directory: give a file that `kvraft backup` has written", Exit.WRONG_ARGUMENTS)
    if not path.is_file():
        raise Failure(f"{path}: there is no such file", Exit.WRONG_ARGUMENTS)
    wanted = Wanted(_peers(peers), token, bump_index, None if ttl_from is None else _moment_ns(ttl_from))
    try:
        cluster = restore.plan(path, wanted)
        names = [founder.name for founder in cluster.founders] if name is None else [cluster.founder(name).name]
        places = {each: Path(data_dir) / each if name is None else Path(data_dir) for each in names}
        restore.restore_all(path, cluster, places)
    except StorageFailedError as error:
        raise Failure(f"--data-dir: {error}") from error
    except BackupError as error:
        raise Failure(str(error), Exit.WRONG_ARGUMENTS) from error
    except StorageError as error:
        raise Failure(f"--data-dir: {error}", Exit.WRONG_ARGUMENTS) from error
    for each, place in places.items():
        _print(call, cluster, each, place)


def _print(call: Call, cluster: NewCluster, name: str, place: Path) -> None:
    founder = cluster.founder(name)
    if call.out.is_json:
        call.out.json(
            {
                "name": name,
                "data_dir": str(place),
                "member": ids.text(founder.member_id),
                "cluster": ids.text(cluster.cluster_id),
                "token": cluster.token,
                "peer_urls": list(founder.peer_urls),
                "raft_index": cluster.position.index,
            }
        )
    else:
        text = f"{place}: member {name} ({ids.text(founder.member_id)}) of cluster {ids.text(cluster.cluster_id)}"
        call.out.line(text, "good")


def _peers(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Names and peer URLs; several URLs of one name belong together, as in --initial-cluster."""
    by_name: dict[str, list[str]] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, url = part.partition("=")
        if not equals or not name.strip():
            raise Failure(f"--peers: {part!r}: write every member as name=http://host:port", Exit.WRONG_ARGUMENTS)
        try:
            by_name.setdefault(name.strip(), []).append(str(urls.parse(url)))
        except ValueError as error:
            raise Failure(f"--peers: {name}: {error} (use {name}=http://host:port)", Exit.WRONG_ARGUMENTS) from None
    told = [url for peer_urls in by_name.values() for url in peer_urls]
    doubled = next((url for url in told if told.count(url) > 1), None)
    if doubled is not None:
        raise Failure(f"--peers: duplicate url {doubled}: give each member its own", Exit.WRONG_ARGUMENTS)
    unfit = next((name for name in by_name if "/" in name or name in {".", ".."}), None)
    if unfit is not None:
        raise Failure(f"--peers: {unfit!r} cannot be the name of a directory: use another name", Exit.WRONG_ARGUMENTS)
    if not by_name:
        raise Failure("--peers: name every new member, as n1=http://host:2380", Exit.WRONG_ARGUMENTS)
    return tuple((name, tuple(peer_urls)) for name, peer_urls in by_name.items())


def _moment_ns(text: str) -> int:
    """Unix nanoseconds; UTC where no zone is given. The same on every machine, so `now` will not do."""
    try:
        told = dt.datetime.fromisoformat(text)
        aware = told if told.tzinfo else told.replace(tzinfo=dt.UTC)
        unix_ns = int(aware.timestamp()) * _NS_PER_S + aware.microsecond * 1000
    except (ValueError, OverflowError):
        raise Failure(
            f"--ttl-from={text}: write a moment, the same on every machine, as 2026-11-29T03:00:00Z",
            Exit.WRONG_ARGUMENTS,
        ) from None
    if unix_ns > clock.wall_ns() + _AHEAD_MAX_S * _NS_PER_S:
        raise Failure(
            f"--ttl-from={text}: that is still to come, and every key with a TTL until then would be gone: give the"
            f" moment at which the members start, or one before it (it is {moment(clock.wall_ns())} here)",
            Exit.WRONG_ARGUMENTS,
        )
    return unix_ns
