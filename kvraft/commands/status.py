"""`kvraft status`: how each member of a cluster is."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from kvraft import clock
from kvraft.client import ClientError
from kvraft.commands.calls import Call, subcommand
from kvraft.commands.cluster_view import ClusterView, MemberView, days_left, look
from kvraft.commands.exits import Exit, told
from kvraft.commands.options import Seconds
from kvraft.commands.output import Cell, table

if TYPE_CHECKING:
    from rich.console import RenderableType

_TITLES: Final = (
    "NAME",
    "ROLE",
    "VERSION",
    "INDEX",
    "LAG",
    "HISTORY FROM",
    "LOG",
    "DISK",
    "FREE",
    "CERTIFICATE",
    "URL",
)
_NUMBERS: Final = ("INDEX", "LAG", "HISTORY FROM", "LOG", "DISK", "FREE")
_DISPENSABLE: Final = ("URL", "HISTORY FROM", "VERSION", "CERTIFICATE", "DISK")
"""What is left out where a terminal is too narrow for all, the first of them first."""
_FAR_BEHIND: Final = 1000
"""Entries; a follower of a busy leader is a few dozen behind at any moment."""
_SOON_DAYS: Final = 30
_UNKNOWN: Final = ("?", "quiet")


@subcommand()
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--interval",
    metavar="SECONDS",
    default=2.0,
    show_default=True,
    type=Seconds(min=0.1),
    help="How often with --watch.",
)
async def command(call: Call, *, watch: bool, interval: float) -> Exit:
    """Show how each member of a cluster is.

    INDEX is the last entry that a member has applied, LAG by how many that is less than the leader has committed.
    HISTORY FROM is the oldest etcd index from which a watch can start. LOG is what the log holds, DISK what the data
    takes of the disk, FREE what the disk has left. CERTIFICATE is when the first of the certificates ends that are
    served.

    The exit code is 5 if a member does not answer, there is no leader, an alarm is set, or a certificate has ended, and
    if one of --endpoints does not answer, or belongs to another cluster.
    Where users have to say who they are, this is for those with the role root. Members of etcd are shown too, with
    what they tell.
    """
    if watch:
        call.interrupted = ""
        await _watch(call, interval)
    cluster = await _look(call)
    if call.out.is_json:
        call.out.json(as_json(cluster))
    else:
        call.out.console.print(shown(cluster, call.out.console.width))
    return Exit.NOT_WELL if cluster.problems else Exit.DONE


async def _look(call: Call) -> ClusterView:
    async with call.client() as client:
        return await look(client, call.given.endpoints(), call.client, clock.wall_ns() / 1e9)


async def _watch(call: Call, interval: float) -> None:
    """Show it anew until Ctrl-C: in place on a terminal, else one below the other."""
    with contextlib.ExitStack() as stack:
        live = None
        if not call.out.is_json and call.out.console.is_terminal:
            from rich.live import Live  # noqa: PLC0415 -- for this alone

            live = stack.enter_context(Live(console=call.out.console, auto_refresh=False, screen=True))
        while True:
            try:
                cluster = await _look(call)
            except ClientError as error:
                # Nobody answers just now; whoever watches wants to see when somebody does again.
                view: Any = {"problems": [told(error)[0]]}
                picture: RenderableType = told(error)[0]
            else:
                view, picture = as_json(cluster), shown(cluster, call.out.console.width)
            if call.out.is_json:
                call.out.json(view)
            elif live is not None:
                live.update(picture, refresh=True)
            else:
                call.out.console.print(picture)
            await asyncio.sleep(interval)


def as_json(cluster: ClusterView) -> dict[str, Any]:
    """The whole view for programs."""
    leader = cluster.leader
    return {
        "leader": leader.record["id"] if leader else "",
        "members": [
            {**member.record, "lag": cluster.lag(member), "status": member.status, "error": member.error}
            for member in cluster.members
        ],
        "problems": cluster.problems,
    }


def shown(cluster: ClusterView, columns: int) -> "RenderableType":
    """The view for people: a line about the cluster, a row a member, and what is wrong."""
    from rich.console import Group  # noqa: PLC0415 -- --json needs no rich
    from rich.text import Text  # noqa: PLC0415 -- the same

    from kvraft.commands.output import printable  # noqa: PLC0415 -- the same

    problems = [Text(printable(problem), style="bold red") for problem in cluster.problems]
    well = Text("all is well", style="green")
    rows = [_row(cluster, member) for member in cluster.members]
    left_out = too_wide(rows, columns)
    kept = [at for at, title in enumerate(_TITLES) if title not in left_out]
    made = table([_TITLES[at] for at in kept], [[row[at] for at in kept] for row in rows], right=_NUMBERS)
    note = [Text(f"no room for {', '.join(left_out)}", style="dim")] * bool(left_out)
    return Group(Text(printable(_summary(cluster))), "", made, *note, "", *(problems or [well]))


def too_wide(rows: Sequence[Sequence[Cell]], columns: int) -> list[str]:
    """The columns to be left out, so that a row stays a line on a terminal of so many columns."""
    texts = [[cell if isinstance(cell, str) else cell[0] for cell in row] for row in rows]
    widths = {title: max(map(len, (title, *column))) + 2 for title, *column in zip(_TITLES, *texts, strict=True)}
    left_out: list[str] = []
    for title in _DISPENSABLE:
        if sum(widths.values()) - 2 <= columns:
            break
        del widths[title]
        left_out.append(title)
    return left_out


def _summary(cluster: ClusterView) -> str:
    """One line about all of them."""
    answering = [member.status for member in cluster.members if member.status]
    if not answering:
        return f"none of {len(cluster.members)} answers"
    facts = answering[0] if cluster.leader is None or cluster.leader.status is None else cluster.leader.status
    leader = cluster.leader.title if cluster.leader else "nobody"
    parts = [f"cluster {facts['clusterId']}", f"{len(answering)} of {len(cluster.members)} answer"]
    parts += [f"{leader} leads in term {facts.get('term', '?')}", f"etcd index {facts.get('etcdIndex', '?')}"]
    return ", ".join(parts)


def _row(cluster: ClusterView, member: MemberView) -> list[Cell]:
    """What `_TITLES` name."""
    url = ", ".join(member.record["clientURLs"])
    lag = cluster.lag(member)
    lag_cell: Cell = _UNKNOWN if lag is None else (f"{lag:,}", "doubtful" if lag > _FAR_BEHIND else "")
    status = member.status
    if status is None:
        word = "no answer" if member.record["clientURLs"] else "not started"
        return [member.title, (word, "bad"), *[_UNKNOWN] * 2, lag_cell, *[_UNKNOWN] * 5, url]
    role = (member.role, "good" if member.role == "leader" else "" if member.role == "follower" else "doubtful")
    program = f"kvraft {status['version']}" if "version" in status else f"etcd {status['etcdVersion']}"
    disk = "bad" if "NOSPACE" in status.get("alarms", ()) else ""
    return [
        member.title,
        role,
        program,
        _count(status, "appliedIndex"),
        lag_cell,
        _count(status, "historyStart"),
        _size(status, "logBytes"),
        _size(status, "diskUsedBytes"),
        _size(status, "diskFreeBytes", disk),
        _certificate(status),
        url,
    ]


def _count(status: dict[str, Any], name: str) -> Cell:
    return f"{status[name]:,}" if name in status else _UNKNOWN


def _size(status: dict[str, Any], name: str, style: str = "") -> Cell:
    """Bytes as people read them."""
    if name not in status:
        return _UNKNOWN
    number = float(status[name])
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}", style
        number /= 1024
    return f"{number:.1f} TiB", style


def _certificate(status: dict[str, Any]) -> Cell:
    """When the first of them ends."""
    if "certificates" not in status:
        return _UNKNOWN
    ends = sorted(certificate["endsAt"] for certificate in status["certificates"])
    if not ends:
        return "none", "quiet"
    days = days_left(ends[0], clock.wall_ns() / 1e9)
    style = "bad" if days < 0 else "doubtful" if days < _SOON_DAYS else ""
    return f"ended {ends[0][:10]}" if days < 0 else f"{ends[0][:10]}, {days} days", style
